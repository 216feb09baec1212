"""RLE Lossless (PS3.5 annex G), compared with pydicom."""

import re
import tomllib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.pixels.decoders.pylibjpeg import DECODER_DEPENDENCIES

from handlers.formats.decode import decode
from tests.handlers.images import dicom, picture

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_an_installation_that_reads_dicom_has_the_packages_that_decode_rle() -> None:
    """The tests have more packages, so they decode RLE anyway."""
    extra = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["dicom"]
    needed, installed = ({re.split("[>=]", item)[0] for item in items} for items in (_needed(), extra))
    assert needed <= installed


def _needed() -> tuple[str, ...]:
    return DECODER_DEPENDENCIES[uid.RLELossless]


@pytest.mark.parametrize("name", ["SC_rgb_rle", "SC_rgb_rle_16bit", "SC_rgb_rle_32bit"])
def test_files_of_pydicom_have_pydicoms_colours(name: str) -> None:
    content = Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes()
    _assert_as_pydicom(content)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("shape", [(40, 48), (39, 41)])
def test_colours_equal_those_of_pydicom(bits: int, planar: int, shape: tuple[int, int]) -> None:
    values = picture(*shape).astype(f"u{bits // 8}") * ((2**bits - 1) // 255)
    _assert_as_pydicom(dicom(values, uid.RLELossless, PlanarConfiguration=planar))


def _assert_as_pydicom(content: bytes) -> None:
    expected = dcmread(BytesIO(content)).pixel_array
    scaled = expected.astype(np.float64) * (255 / np.iinfo(expected.dtype).max)
    actual = np.asarray(decode(content).pixels)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, scaled, atol=0.5)
