"""What the client accepts as an image, and which bytes it sends."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from handlers.formats.decode import decode
from handlers.formats.image import Limits
from radserve.client.sources import read
from radserve.errors import InvalidCallError, RejectedRequestError
from tests.handlers.images import dicom
from tests.server import ROOT

LIMIT = 1_000_000
RAMP = np.arange(200, dtype=np.uint8).reshape(10, 20)


def content(source: Any) -> bytes:
    return read(source, LIMIT).content


def loaded(source: Any) -> Any:
    """Return the array of a .npy file that is sent."""
    return np.load(io.BytesIO(content(source)))


def test_bytes_files_and_paths_are_sent_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(b"film")
    with path.open("rb") as file:
        sources = [b"film", bytearray(b"film"), memoryview(b"film"), path, str(path), file, io.BytesIO(b"film")]
        assert [content(source) for source in sources] == [b"film"] * 7


@pytest.mark.parametrize("name", ["missing.png", "", "a\0b", "/"])
def test_a_str_that_names_no_file_is_an_invalid_call(name: str) -> None:
    with pytest.raises(InvalidCallError, match="A str or Path names a file; pass the content of one as bytes"):
        content(name)
    with pytest.raises(InvalidCallError, match="Cannot read the file"):
        content(Path(name))


def test_the_content_of_a_file_as_str_is_shortened_in_the_error() -> None:
    with pytest.raises(InvalidCallError) as raised:
        content("\x89PNG" * 100_000)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "array",
    [
        RAMP,
        RAMP.astype(np.uint16) * 300,
        RAMP > 99,
        (RAMP / 200).astype(np.float32),
        np.stack([RAMP] * 3, axis=2),
        np.asfortranarray(RAMP),
        RAMP[::2, ::-1],
        RAMP[None],
    ],
)
def test_an_array_is_sent_without_loss_and_the_server_can_decode_it(array: Any) -> None:
    np.testing.assert_array_equal(loaded(array), array)
    assert loaded(array).dtype == array.dtype
    height, width = array.shape[1:] if array.shape[0] == 1 else array.shape[:2]
    image = decode(content(array), Limits())
    assert (image.height, image.width) == (height, width)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RAMP.astype(np.int16), "dtype int16; convert it to uint8"),
        (RAMP.astype(np.uint32), "dtype uint32"),
        (RAMP.astype(object), "dtype object"),
        (RAMP.astype(np.float64), r"not in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"not in \[0, 1\]"),
        (RAMP.ravel(), r"shape \(200,\)"),
        (np.zeros((2, 10, 20), dtype=np.uint8), r"shape \(2, 10, 20\); pass one image"),
        (np.zeros((0, 3), dtype=np.uint8), r"shape \(0, 3\)"),
    ],
)
def test_an_array_that_is_no_image_is_an_invalid_call(array: Any, message: str) -> None:
    with pytest.raises(InvalidCallError, match=message):
        content(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pillow_image_is_sent_as_png_without_loss(mode: str) -> None:
    array = RAMP.astype(np.uint16) * 300 if mode == "I;16" else RAMP
    image = Pillow.fromarray(array) if mode == "I;16" else Pillow.fromarray(array).convert(mode)
    sent = Pillow.open(io.BytesIO(content(image)))
    assert sent.format == "PNG"
    np.testing.assert_array_equal(np.asarray(sent.convert("RGBA")), np.asarray(image.convert("RGBA")))


def test_a_pillow_image_is_sent_upright() -> None:
    image = Pillow.fromarray(RAMP)
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees
    assert Pillow.open(io.BytesIO(content(image))).size == (10, 20)


@pytest.mark.parametrize("mode", ["F", "I", "CMYK", "YCbCr", "I;16L"])
def test_a_pillow_image_that_a_png_cannot_hold_is_an_invalid_call(mode: str) -> None:
    with pytest.raises(InvalidCallError, match=f"mode {mode}, which a PNG cannot hold"):
        content(Pillow.new(mode, (4, 4)))


def test_a_dataset_is_sent_as_dicom_with_its_pixels() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    sent = pydicom.dcmread(io.BytesIO(content(dataset)))
    np.testing.assert_array_equal(sent.pixel_array, RAMP)
    assert sent.Modality == "DX"


def test_a_dataset_without_a_transfer_syntax_is_an_invalid_call() -> None:
    with pytest.raises(InvalidCallError, match="cannot be written as a DICOM file"):
        content(pydicom.Dataset())


@pytest.mark.parametrize("source", [None, 5, [b"film"], {"a": 1}])
def test_another_type_is_an_invalid_call(source: Any) -> None:
    with pytest.raises(InvalidCallError, match=f"An image cannot be a {type(source).__name__}; pass bytes"):
        content(source)


def test_a_file_in_text_mode_is_an_invalid_call() -> None:
    with pytest.raises(InvalidCallError, match="open it in binary mode"):
        content(io.StringIO("film"))


def test_an_image_above_the_limit_is_rejected_without_reading_all_of_it() -> None:
    file = io.BytesIO(bytes(100))
    with pytest.raises(RejectedRequestError, match="more than 10 bytes"):
        read(file, 10)
    assert file.tell() == 11


def test_optional_packages_are_not_needed_for_bytes() -> None:
    absent = dict.fromkeys(("numpy", "PIL", "pydicom", "pandas", "matplotlib"))
    code = f"import sys; sys.modules.update({absent}); from radserve.client.sources import read; read(b'x', 1)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
