import struct

import imagecodecs
import numpy as np
import pytest

from handlers.errors import UnreadableImageError
from handlers.formats import codestream
from handlers.formats.codestream import Codestream
from tests.handlers.images import film, jpeg2000, picture, saved

DEEP = film(top=4095, kind=np.uint16)
J2K = jpeg2000(film())


def test_jpeg() -> None:
    header = codestream.read(saved(picture(), "JPEG", progressive=True))
    assert header == Codestream("jpeg", 48, 40, 3, 8, identifiers=b"\1\2\3")


def test_jpeg_ls() -> None:
    assert codestream.read(bytes(imagecodecs.jpegls_encode(DEEP))) == Codestream(
        "jpeg-ls", 48, 40, 1, 16, lossless=True, identifiers=b"\1"
    )


@pytest.mark.parametrize("precision", [12, 16])
def test_jpeg_2000(precision: int) -> None:
    data = jpeg2000(DEEP.astype(np.int16) - np.int16(2048), precision)
    assert codestream.read(data) == Codestream("jpeg2000", 48, 40, 1, precision, lossless=True)


def test_jp2_file() -> None:
    assert codestream.read(saved(picture(), "JPEG2000")) == Codestream("jpeg2000", 48, 40, 3, 8, lossless=True)


def test_lossless_jpeg_is_detected() -> None:
    data = bytearray(saved(film(), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = 0xC3
    assert codestream.read(bytes(data)).lossless


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000,
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8" + b"\xff" * 1000,
        saved(film(), "JPEG")[:60],
        J2K[:60],
        b"\x00\x00\x00\x0cjP  " + b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x0cjP  " + b"\x00\x00\x00\x08free" * 9000,
        b"\r\n\x87\n" + bytes(100),
        b"SECRET",
    ],
)
def test_damaged_codestreams_are_rejected(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        codestream.read(data)


def patched(data: bytes, at: int, form: str, *numbers: int) -> bytes:
    packed = struct.pack(form, *numbers)
    return data[:at] + packed + data[at + len(packed) :]


def coding_style(data: bytes) -> int:
    return data.index(b"\xff\x52") + 4


def test_tiles_are_limited() -> None:
    data = patched(J2K, 8, ">IIIIII", 60_000, 60_000, 0, 0, 1, 1)
    with pytest.raises(UnreadableImageError, match="60000x60000 pixels in 3600000000 tiles"):
        codestream.read(data)


def test_code_blocks_are_limited() -> None:
    data = patched(patched(J2K, 8, ">IIIIII", 8_000, 8_000, 0, 0, 8_000, 8_000), coding_style(J2K) + 6, ">BB", 0, 0)
    with pytest.raises(UnreadableImageError, match="has 4000000 code-blocks"):
        codestream.read(data)


@pytest.mark.parametrize("where", ["main", "tile"])
def test_precincts_are_limited(where: str) -> None:
    data = patched(J2K, 8, ">IIIIII", 8_000, 8_000, 0, 0, 8_000, 8_000)
    style = b"\xff\x52" + struct.pack(">HBBHBBBBBBB", 13, 1, 0, 1, 0, 0, 4, 4, 0, 0, 0)
    at = data.index(b"\xff\x52") if where == "main" else data.index(b"\xff\x90") + 12
    with pytest.raises(UnreadableImageError, match="precincts"):
        codestream.read(data[:at] + style + data[at:])


def test_layers_are_limited() -> None:
    data = patched(patched(J2K, 8, ">IIIIII", 8_000, 8_000, 0, 0, 100, 100), coding_style(J2K) + 2, ">H", 65_535)
    with pytest.raises(UnreadableImageError, match="65535 layers"):
        codestream.read(data)


def test_components_that_differ_are_rejected() -> None:
    data = jpeg2000(picture())
    with pytest.raises(UnreadableImageError, match="subsampled"):
        codestream.read(patched(data, 46, ">B", 2))


def test_lossy_codings_are_detected() -> None:
    assert not codestream.read(bytes(imagecodecs.jpegls_encode(DEEP, level=2))).lossless
    assert not codestream.read(bytes(imagecodecs.jpeg2k_encode(DEEP, level=40, reversible=False))).lossless


@pytest.mark.parametrize("before", [b"", b"\x00"])
@pytest.mark.parametrize("after", [b"", b"\x00"])
def test_scans_are_counted_at_even_and_at_odd_positions(before: bytes, after: bytes) -> None:
    assert not codestream.has_too_many_scans(before + b"\xff\xda" * 256 + after)
    assert codestream.has_too_many_scans(before + b"\xff\xda" * 257 + after)
