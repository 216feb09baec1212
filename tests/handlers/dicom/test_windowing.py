from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from handlers.errors import RequestError
from handlers.formats.decode import decode
from tests.handlers.images import dicom, film

VALUES = film(top=4095, kind=np.uint16)
DEEP: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}


def shown(values: NDArray[Any], syntax: uid.UID = uid.ExplicitVRLittleEndian, **attributes: Any) -> NDArray[np.float64]:
    return np.asarray(decode(dicom(values, syntax, **attributes)).pixels).astype(np.float64)


def linear(x: NDArray[Any], c: float, w: float) -> NDArray[np.float64]:
    """Compute the formula of PS3.3 C.11.2.1.2.1."""
    y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    return np.where(x <= c - 0.5 - (w - 1) / 2, 0, np.where(x > c - 0.5 + (w - 1) / 2, 255, y))


def linear_exact(x: NDArray[Any], c: float, w: float) -> NDArray[np.float64]:
    """Compute the formula of PS3.3 C.11.2.1.3.2."""
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 255, ((x - c) / w + 0.5) * 255))


def sigmoid(x: NDArray[Any], c: float, w: float) -> NDArray[np.float64]:
    """Compute the formula of PS3.3 C.11.2.1.3.1."""
    return np.asarray(255 / (1 + np.exp(-4 * (x - c) / w)))


@pytest.mark.parametrize("function", [linear, linear_exact, sigmoid], ids=lambda item: item.__name__.upper())
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.5, -1024), (-1, 4095)])
def test_window_functions(function: Any, slope: float, intercept: float) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 900, "VOILUTFunction": function.__name__.upper()}
    actual = shown(VALUES, RescaleSlope=slope, RescaleIntercept=intercept, **window, **DEEP)
    x = VALUES.astype(np.float64) * slope + intercept
    np.testing.assert_allclose(actual, function(x, 40, 900), atol=1e-3)


def test_linear_is_the_default_and_the_first_window_is_used() -> None:
    actual = shown(VALUES, WindowCenter=[1000, 3000], WindowWidth=[500, 100], **DEEP)
    np.testing.assert_allclose(actual, linear(VALUES.astype(np.float64), 1000, 500), atol=1e-3)


def test_window_of_width_1_is_a_threshold() -> None:
    actual = shown(VALUES, WindowCenter=2000, WindowWidth=1, **DEEP)
    np.testing.assert_array_equal(actual, np.where(VALUES <= 1999.5, 0, 255))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, "WindowWidth has value 0"),
        ({"WindowCenter": 1, "WindowWidth": -4, "VOILUTFunction": "SIGMOID"}, "WindowWidth has value -4"),
        ({"WindowCenter": 1, "WindowWidth": 4, "VOILUTFunction": "SECRET"}, "VOILUTFunction is not LINEAR"),
        ({"RescaleSlope": 0}, "RescaleSlope 0"),
    ],
)
def test_invalid_windows_are_rejected(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        shown(VALUES, **attributes, **DEEP)
    assert caught.value.status in {400, 422}


def test_without_window_the_range_of_the_image_is_used() -> None:
    values = VALUES // np.uint16(2) + np.uint16(100)
    actual = shown(values, **DEEP)
    x = values.astype(np.float64)
    np.testing.assert_allclose(actual, (x - x.min()) / np.ptp(x) * 255, atol=1e-3)


def test_8_bits_without_window_are_unchanged() -> None:
    values = film(top=200)
    image = decode(dicom(values))
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), values)


def test_8_bits_with_a_full_window_are_unchanged() -> None:
    image = decode(dicom(film(), WindowCenter=128, WindowWidth=256))
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), film())


@pytest.mark.parametrize(
    "attributes",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
    ],
)
def test_inverse(attributes: dict[str, Any]) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 3000, **DEEP}
    np.testing.assert_allclose(shown(VALUES, **window, **attributes), 255 - shown(VALUES, **window), atol=1e-3)
    np.testing.assert_array_equal(shown(film(), **attributes), 255 - film())


@pytest.mark.parametrize("limit", [None, 4095])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_outside_the_range(meaning: str, limit: int | None) -> None:
    values = VALUES // np.uint16(4) + np.uint16(100)
    values[:, :10] = 4095
    values[:, :5] = 4095 if limit is None else 4000
    padding: dict[str, Any] = {"PixelPaddingValue": 4095 if limit is None else 4000}
    if limit is not None:
        padding["PixelPaddingRangeLimit"] = limit
    actual = shown(values, PhotometricInterpretation=meaning, **padding, **DEEP)
    np.testing.assert_array_equal(actual[:, :10], 0)
    np.testing.assert_allclose((actual[:, 10:].min(), actual[:, 10:].max()), (0, 255), atol=1e-3)


def test_padding_of_signed_values_in_implicit_vr() -> None:
    values = film(top=1000, kind=np.int16)
    values[:8] = -2000
    actual = shown(values, uid.ImplicitVRLittleEndian, PixelPaddingValue=-2000)
    np.testing.assert_array_equal(actual[:8], 0)
    assert actual[8:].max() == 255
    assert actual[8:].min() == 0
    assert (actual[8:] < 30).mean() < 0.2


def lut(entries: NDArray[Any], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def test_voi_table() -> None:
    entries = np.linspace(0, 1023, 2000) ** 2 / 1023
    actual = shown(VALUES, VOILUTSequence=[lut(entries, 500, 10)], WindowCenter=1, WindowWidth=2, **DEEP)
    x = np.clip(VALUES.astype(int) - 500, 0, 1999)
    np.testing.assert_allclose(actual, entries.astype(np.uint16)[x] / 1023 * 255, atol=1e-3)


def test_voi_table_with_negative_start() -> None:
    values = VALUES.astype(np.int16) - np.int16(2048)
    entries = np.arange(4096)
    actual = shown(values, VOILUTSequence=[lut(entries, -2048, 12)])
    np.testing.assert_allclose(actual, VALUES / 4095 * 255, atol=1e-3)


def test_modality_table() -> None:
    entries = 4095 - np.arange(4096)
    window: dict[str, Any] = {"WindowCenter": 2000, "WindowWidth": 4000}
    actual = shown(VALUES, ModalityLUTSequence=[lut(entries, 0, 12)], **window, **DEEP)
    np.testing.assert_allclose(actual, linear(4095.0 - VALUES, 2000, 4000), atol=1e-3)


@pytest.mark.parametrize("cut", ["LUTDescriptor", "LUTData"])
def test_a_table_without_descriptor_or_data_is_rejected(cut: str) -> None:
    item = lut(np.arange(100), 0, 8)
    del item[cut]
    with pytest.raises(RequestError, match=cut):
        shown(VALUES, VOILUTSequence=[item], **DEEP)


def test_a_table_shorter_than_its_descriptor_is_rejected() -> None:
    item = lut(np.arange(100), 0, 8)
    item.LUTDescriptor = [0, 0, 8]
    with pytest.raises(RequestError, match="LUTData has fewer than the 65536 entries"):
        shown(VALUES, VOILUTSequence=[item], **DEEP)


def test_32_bits() -> None:
    values = film().astype(np.uint32) * 16_000_000
    actual = shown(values)
    np.testing.assert_allclose(actual, film(), atol=0.01)


def test_functional_groups_of_the_only_frame() -> None:
    window, measures, transformation = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 0, 1000, "LINEAR_EXACT"
    measures.PixelSpacing = [0.2, 0.3]
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 2, -1000, "US"
    shared, frame = Dataset(), Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PixelValueTransformationSequence = [transformation]
    frame.FrameVOILUTSequence = [window]
    groups: dict[str, Any] = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [frame]}
    image = decode(dicom(VALUES, NumberOfFrames=1, **groups, **DEEP))
    assert image.spacing == (0.2, 0.3)
    np.testing.assert_allclose(np.asarray(image.pixels), linear_exact(VALUES * 2.0 - 1000, 0, 1000), atol=1e-3)
