"""Windows and gray levels, compared with pydicom and NumPy."""

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from tests.gateway.page.films import Pixels
from tests.gateway.page.modules import call
from tests.handlers.images import film

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("level", "width"), [(40, 400), (-600, 1500), (128, 256), (0.5, 1), (7, 2)])
def test_a_window_is_that_of_the_standard(modules: Page, level: float, width: float) -> None:
    window = Dataset()
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    window.WindowCenter, window.WindowWidth = level, width
    source = {"first": -1200, "last": 1200, "slope": 1, "intercept": 0}
    shades = call(modules, "window_level", "levels", source, {"level": level, "width": width}, False)
    expected = apply_windowing(np.arange(-1200, 1201).astype(np.float64), window)
    assert np.abs(np.array(shades) - expected).max() <= 0.51
    inverted = call(modules, "window_level", "levels", source, {"level": level, "width": width}, True)
    np.testing.assert_array_equal(np.array(inverted), 255 - np.array(shades))


PAINT = """async ([values, table, step, stride]) => {
    const { paint } = await import("/js/window_level.js");
    const pixels = new Uint8ClampedArray(4 * Math.ceil(5 / stride) * Math.ceil(3 / stride));
    paint({ values, first: 0, width: 5, height: 3, step }, table, pixels, stride);
    return [...pixels];
}"""


@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_colours_are_drawn_with_their_gray_levels(modules: Page, stride: int) -> None:
    table = [255 - value for value in range(256)]
    gray = np.arange(15).reshape(3, 5, 1)
    color = np.concatenate([gray, gray + 50, gray + 100, np.full_like(gray, 255)], axis=2)
    for values, step, expected in ((gray, 1, np.repeat(255 - gray, 4, 2)), (color, 4, 255 - color)):
        drawn = modules.evaluate(PAINT, [values.ravel().tolist(), table, step, stride])
        wanted = expected[::stride, ::stride].copy()
        wanted[..., 3] = 255
        assert drawn == wanted.ravel().tolist()


def picture(values: Pixels, low: float, high: float, *, inverse: bool = False) -> list[int]:
    """Return the picture of values in a window, in RGBA."""
    shades = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
    return np.repeat(255 - shades if inverse else shades, 4).astype(int).tolist()


STORED = film(40, 48, 4095, np.uint16).astype(int)


def stored(**changes: Any) -> dict[str, Any]:
    values = STORED.ravel().tolist()
    empty: dict[str, Any] = {"padding": None, "window": None, "modality": "DX", "width": 48, "height": 40}
    return {"values": values, "slope": 1, "intercept": 0} | empty | changes


def test_the_window_of_stored_values_is_that_of_the_picture(modules: Page) -> None:
    def source(shades: list[int], **changes: Any) -> Any:
        return call(modules, "window_level", "sourceOf", stored(**changes), shades)

    plain = source(picture(STORED, 500, 3500))
    assert plain["own"] == pytest.approx({"level": 2000, "width": 3000}, rel=0.01)
    assert not plain["isInverse"]
    inverse = source(picture(STORED, 500, 3500, inverse=True), window={"level": 2001, "width": 3001})
    assert inverse["own"] == {"level": 2001, "width": 3001}
    assert inverse["isInverse"]
    # The file declares a window that the picture does not have, as with a VOI LUT.
    assert source(picture(STORED, 500, 3500), window={"level": 40, "width": 80})["own"]["width"] > 2900
    units = source(picture(STORED * 2 - 1024, 0, 400), slope=2, intercept=-1024)
    assert units["own"] == pytest.approx({"level": 200, "width": 400}, abs=4)
    sigmoid = np.rint(255 / (1 + np.exp(-4 * (STORED - 2000) / 240))).astype(int)
    assert source(np.repeat(sigmoid, 4).tolist(), window={"level": 2000, "width": 240}) is None, "no line"
    assert source(picture(STORED[::-1, ::-1], 500, 3500)) is None, "turned"
    assert source(picture(STORED, 9000, 9001)) is None, "black"


def test_windows_of_small_units_have_their_digits(modules: Page) -> None:
    values = stored(slope=0.0001)
    source = call(modules, "window_level", "sourceOf", values, picture(STORED, 0, 4095))
    assert source["own"] == pytest.approx({"level": 0.2048, "width": 0.4096}, abs=2e-4)
    full = next(item for item in call(modules, "window_level", "presets", source) if item["id"] == "full")["window"]
    shades = call(modules, "window_level", "levels", source, full, False)
    assert (shades[0], shades[-1]) == (0, 255)
    assert call(modules, "window_level", "reach", source) < 0.5
    assert call(modules, "window_level", "dragged", full, -1, 0, 0.4, 0.0001)["width"] == pytest.approx(
        0.4 / 500, abs=0.01
    )


def test_presets_span_the_values_and_those_in_hounsfield_units_are_for_ct(modules: Page) -> None:
    source = call(modules, "window_level", "sourceOf", stored(padding=[4095, 4095]), picture(STORED, 0, 4095))
    names = {item["id"]: item["window"] for item in call(modules, "window_level", "presets", source)}
    assert names["full"]["width"] <= 4095
    assert names["dark"]["level"] < names["bright"]["level"]
    assert "lung" not in names
    upside = call(modules, "window_level", "presets", source | {"isInverse": True})
    windows = {item["id"]: item["window"] for item in upside}
    assert windows["dark"] == names["bright"]
    ct = call(modules, "window_level", "presets", source | {"isHounsfield": True})
    assert [item["window"] for item in ct if item["id"] == "lung"] == [{"level": -600, "width": 1500}]
