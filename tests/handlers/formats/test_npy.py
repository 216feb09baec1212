import os
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from handlers.errors import RequestError, UnreadableImageError, UnusableImageError
from handlers.formats.decode import decode
from handlers.formats.image import Limits
from tests.handlers.images import film, npy, picture


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (film(), "L"),
        (film()[..., None], "L"),
        (film()[None], "L"),
        (np.asfortranarray(film()), "L"),
        (film() > 100, "L"),
        (picture(), "RGB"),
        (picture().transpose(2, 0, 1), "RGB"),
        (np.asfortranarray(picture()), "RGB"),
        (film().astype(">u2") * 257, "F"),
        (film().astype("<u2") * 257, "F"),
        (film().astype(">f4") / np.float32(255), "F"),
        (film().astype(np.float16) / np.float16(255), "F"),
        (film().astype(np.float64) / 255, "F"),
        (picture() / 255, "RGB"),
    ],
    ids=lambda value: (
        f"{value.dtype.str}{value.shape}{'F' if value.flags.fnc else ''}" if hasattr(value, "dtype") else value
    ),
)
def test_reads(array: np.ndarray[Any, Any], mode: str) -> None:
    image = decode(npy(array))
    assert (image.format, image.width, image.height, image.pixels.mode) == ("npy", 48, 40, mode)
    expected = picture() if mode == "RGB" else (film() > 100) * 255 if array.dtype == bool else film()
    np.testing.assert_allclose(np.asarray(image.pixels), expected, atol=0.1)


def test_in_an_ambiguous_shape_the_last_axis_is_colour() -> None:
    image = decode(npy(np.zeros((3, 50, 3), np.uint8)))
    assert (image.width, image.height) == (50, 3)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((2, 40, 48), np.uint8), UnusableImageError, r"shape \(2, 40, 48\)"),
        (np.zeros((40, 48, 4), np.uint8), UnusableImageError, r"shape \(40, 48, 4\)"),
        (np.zeros(48, np.uint8), UnusableImageError, r"shape \(48,\)"),
        (np.zeros((0, 48), np.uint8), UnusableImageError, r"shape \(0, 48\)"),
        (np.zeros((), np.uint8), UnusableImageError, r"shape \(\)"),
        (np.zeros((40, 48), np.int16), UnusableImageError, "type int16; send uint8"),
        (np.zeros((40, 48), np.uint32), UnusableImageError, "type uint32; send uint8"),
        (np.zeros((40, 48), np.complex64), UnusableImageError, "type complex64"),
        (np.zeros((40, 48), "S4"), UnusableImageError, "type bytes32"),
        (np.zeros((40, 48), [("secret", "u1")]), UnusableImageError, "type with fields"),
        (np.array([[{}]], object), UnusableImageError, "type object"),
        (np.full((40, 48), np.nan), UnusableImageError, "not finite"),
        (np.full((40, 48), 1000.0), UnusableImageError, "scale them"),
    ],
)
def test_unusable_arrays_are_rejected(array: np.ndarray[Any, Any], error: type[RequestError], message: str) -> None:
    with pytest.raises(error, match=message):
        decode(npy(array))


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("/tmp/radserve-unpickled",)


def test_nothing_is_unpickled() -> None:
    with pytest.raises(UnusableImageError, match="type object"):
        decode(npy(np.array([[Evil()]], object)))
    assert not os.path.exists("/tmp/radserve-unpickled")  # noqa: PTH110


def with_header(text: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode("latin1") + body


@pytest.mark.parametrize(
    "shape",
    ["(60000, 60000)", "(1000000000000, 1000000000000)", "(4000, 4000)", "(3, 60000, 60000)", f"({10**400}, 3)"],
)
def test_a_huge_shape_is_rejected_before_anything_is_allocated(shape: str) -> None:
    data = with_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n", b"12345")
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            decode(data, Limits(pixels=10_000_000))
        assert caught.value.status in {400, 422}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), " + " " * 60_000 + "}\n", b"1234"),
        with_header("(" * 5000),
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2"),
        with_header("{'descr': '|u1', 'fortran_order': 7, 'shape': (2, 2), }\n", b"1234"),
        with_header("{'descr': '|u1', 'shape': (2, 2), }\n", b"1234"),
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2), }\n", b"1234"),
        with_header("__import__('os').abort()\n"),
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }\n", b"1234", b"\3\0"),
        with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }\n", b"1234", b"\7\0"),
        b"\x93NUMPY",
    ],
)
def test_a_damaged_header_is_rejected(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        decode(data)
    assert caught.value.status in {400, 422}


@pytest.mark.parametrize("change", [-1, 1])
def test_bytes_must_match_the_shape_exactly(change: int) -> None:
    data = npy(film())
    with pytest.raises(UnreadableImageError, match=r"has 1920 bytes, the .npy file 19"):
        decode(data[:-1] if change < 0 else data + b"0")
