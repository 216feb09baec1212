"""Stored values of DICOM files, compared with pydicom."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from playwright.sync_api import Page
from pydicom import uid
from pydicom.dataset import Dataset

from tests.gateway.page.films import Pixels
from tests.gateway.page.modules import call
from tests.handlers.images import dicom, film, saved

pytestmark = pytest.mark.e2e
PARSE = """async data => {
    const { parseValues } = await import("/js/dicom_values.js");
    const parsed = parseValues(Uint8Array.from(atob(data), letter => letter.charCodeAt(0)).buffer);
    return parsed && { ...parsed, values: [...parsed.values] };
}"""


def parse(page: Page, data: bytes) -> Any:
    return page.evaluate(PARSE, base64.b64encode(data).decode())


def nested() -> Dataset:
    """Return attributes that a reader must skip: a sequence, whose item has the tags of an image."""
    inner = Dataset()
    inner.Rows, inner.Columns, inner.BitsStored = 7, 7, 7
    inner.PixelData = b"\0\0"
    inner["PixelData"].VR = "OW"
    outer = Dataset()
    outer.IconImageSequence = [inner]
    return outer


TWELVE: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": [2000, 40], "WindowWidth": [3000, 80]}
PLAIN: dict[str, tuple[Pixels, uid.UID, dict[str, Any]]] = {
    "8 bits, odd": (film(5, 7), uid.ExplicitVRLittleEndian, {}),
    "12 bits": (film(9, 11, 4095, np.uint16), uid.ExplicitVRLittleEndian, TWELVE),
    "16 bits, signed": (film(9, 11, 3000, np.int16) - 1000, uid.ExplicitVRLittleEndian, {"PixelPaddingValue": -1000}),
    "rescaled": (film(6, 6, 4095, np.uint16), uid.ImplicitVRLittleEndian, {"RescaleSlope": 2, "RescaleIntercept": -1}),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("undefined", [False, True])
def test_stored_values_are_those_that_pydicom_reads(modules: Page, name: str, undefined: bool) -> None:
    pixels, syntax, attributes = PLAIN[name]
    sequence = nested()["IconImageSequence"].value
    sequence[0].is_undefined_length_sequence_item = undefined
    data = dicom(pixels, syntax, IconImageSequence=sequence, **attributes)
    assert_as_pydicom(parse(modules, data), data)


def assert_as_pydicom(parsed: Any, data: bytes) -> None:
    dataset = pydicom.dcmread(BytesIO(data))
    expected = dataset.pixel_array
    assert (parsed["height"], parsed["width"]) == expected.shape
    np.testing.assert_array_equal(np.array(parsed["values"]).reshape(expected.shape), expected)
    assert parsed["slope"] == float(dataset.get("RescaleSlope", 1))
    assert parsed["intercept"] == float(dataset.get("RescaleIntercept", 0))
    padding = dataset.get("PixelPaddingValue")
    assert parsed["padding"] == (None if padding is None else [padding, padding])
    center, width = (np.atleast_1d(dataset.get(f"Window{name}", None))[0] for name in ("Center", "Width"))
    assert parsed["window"] == (None if center is None else {"level": float(center), "width": float(width)})


def test_bits_that_do_not_belong_to_the_value_are_ignored(modules: Page) -> None:
    pixels = film(6, 8, 4095, np.uint16)
    overlaid = dicom(pixels | 0xF000, BitsStored=12, HighBit=11)
    assert parse(modules, overlaid)["values"] == pixels.ravel().tolist()
    signed = dicom((pixels & 0x0FFF), BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert min(parse(modules, signed)["values"]) < 0


def test_padding_polarity_and_unit_are_read_as_by_the_server(modules: Page) -> None:
    pixels = film(6, 8, 4095, np.uint16)
    signed: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    for attributes, padding in (
        ({"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 3900}, [3900, 4000]),
        (signed | {"PixelPaddingValue": 0x830}, [-2000, -2000]),  # 12 bits as if unsigned
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, None),  # everything
    ):
        assert parse(modules, dicom(pixels, **attributes))["padding"] == padding
    shades = call(
        modules,
        "window_level",
        "levels",
        {"first": 0, "last": 9, "padding": [3, 5], "isInverse": True},
        {"level": 50, "width": 90},
        False,
    )
    assert [at for at, shade in enumerate(shades) if shade == 0] == [3, 4, 5]
    assert parse(modules, dicom(pixels, PhotometricInterpretation="MONOCHROME1"))["isInverse"]
    assert parse(modules, dicom(pixels, PresentationLUTShape="INVERSE"))["isInverse"]
    assert not parse(modules, dicom(pixels))["isInverse"]
    ct: dict[str, Any] = {"Modality": "CT", "RescaleIntercept": -1024, "RescaleSlope": 1}
    units = [ct, ct | {"RescaleType": "HU"}, ct | {"RescaleType": "US"}, {"Modality": "CT"}, ct | {"Modality": "MR"}]
    found = [parse(modules, dicom(pixels, **each))["isHounsfield"] for each in units]
    assert found == [True, True, False, False, False]


def test_files_without_readable_values_have_none(modules: Page) -> None:
    pixels = film(8, 8, 4095, np.uint16)
    whole = dicom(pixels)
    frames = dicom(np.stack([pixels[:4], pixels[4:]]).reshape(8, 8), Rows=4, NumberOfFrames=2)
    for data in (
        b"",
        saved(film(), "PNG"),
        b"\0" * 128 + b"DICM",
        whole[:-20],
        whole[:300],
        frames,
        dicom(pixels, uid.RLELossless),
        dicom(pixels, uid.ExplicitVRBigEndian),
        dicom(np.stack([film(8, 8)] * 3, axis=-1)),
        dicom(film(8, 8), PhotometricInterpretation="PALETTE COLOR"),
    ):
        assert parse(modules, data) is None


def test_values_of_real_files_are_those_that_pydicom_reads(modules: Page, shared: Path) -> None:
    read = 0
    for path in sorted((shared / "dicom").glob("*.dcm")):
        dataset = pydicom.dcmread(path, force=True)
        parsed = parse(modules, path.read_bytes())
        gray = str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
        single = gray and dataset.get("NumberOfFrames", 1) == 1
        plain = dataset.file_meta.get("TransferSyntaxUID") in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
        if single and plain and "PixelData" in dataset and dataset.BitsAllocated in (8, 16):
            assert parsed is not None, path.name
            np.testing.assert_array_equal(parsed["values"], dataset.pixel_array.ravel(), path.name)
            read += 1
        else:
            assert parsed is None, path.name
    assert read >= 7
