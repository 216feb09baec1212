"""Viewer: window, zoom, touch, overlay. Pure modules are compared with pydicom and NumPy."""

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import CDPSession, Locator, Page, Route, expect
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Browsers, Opener, opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_phone import SMALL
from tests.gateways import Gateway
from tests.handlers.images import dicom, film, saved

pytestmark = pytest.mark.e2e

Pixels = NDArray[Any]
PARSE = """async data => {
    const { parseValues } = await import("/js/dicom_values.js");
    const parsed = parseValues(Uint8Array.from(atob(data), letter => letter.charCodeAt(0)).buffer);
    return parsed && { ...parsed, values: [...parsed.values] };
}"""
CALL = """async ([module, name, values]) => {
    const result = (await import(`/js/${module}.js`))[name](...values);
    return ArrayBuffer.isView(result) ? [...result] : result;
}"""
SHADES = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, at) => at % 4 === 0);
}"""
OUTSIDE = "strongest outside the body"


@pytest.fixture(scope="module")
def modules(browsers: Browsers, static_gateway: Gateway) -> Iterator[Page]:
    """Open the page, whose modules are called."""
    with opener(browsers["chromium"]) as open_page:
        yield open_page(static_gateway.url, ready=False)


def call(page: Page, module: str, name: str, *values: Any) -> Any:
    return page.evaluate(CALL, [module, name, values])


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


SIDE = 128
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE]


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    shape: NDArray[np.bool_] = (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2
    return shape


def thorax() -> Pixels:
    """Return a body with dark lungs, air around it, and a side marker in the air."""
    shades = np.full((SIDE, SIDE), 5)
    shades[disc(64, 64, 50)] = 180
    shades[disc(64, 44, 16) | disc(64, 84, 16)] = 12
    shades[4:10, 110:118] = 255
    return shades


def test_a_heat_map_that_is_strongest_outside_the_body_is_found(modules: Page) -> None:
    def is_outside(shades: Pixels, heat: Pixels) -> bool:
        result: bool = call(modules, "heat_map", "isPeakOutside", shades.ravel().tolist(), heat.ravel().tolist())
        return result

    for name, row, column, outside in (
        ("mediastinum", 64, 64, False),
        ("lung", 64, 44, False),
        ("shoulder", 25, 64, False),
        ("air", 6, 6, True),
        ("side marker", 7, 113, True),
        ("below the body", 122, 64, True),
    ):
        heat = np.maximum(0, 200 - 8 * np.hypot(ROWS - row, COLUMNS - column)).astype(int)
        heat += np.where(disc(64, 64, 20), 100, 0)
        assert is_outside(thorax(), heat) is outside, name
    assert not is_outside(np.where(thorax() == 5, 255, 200), heat), "a bright background has no outside"
    assert not is_outside(thorax(), 0 * heat), "an empty map"


BLINDNESS = {  # Machado, Oliveira and Fernandes (2009), severity 1.0, of linear RGB
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_colours_of_a_heat_map_keep_their_order_for_colour_blind_readers(modules: Page, kind: str) -> None:
    table = np.array(call(modules, "colour_map", "overlayColours", "heat"))
    assert table[0, 3] == 0
    coded = table[:, :3] / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    luminance = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1) @ [0.2126, 0.7152, 0.0722]
    steps = (116 * np.cbrt(luminance) - 16)[::16]
    assert (np.diff(steps) > 1).all()
    assert steps[-1] - steps[0] > 50
    assert (np.ptp(table[:, :3], axis=1) > 60).all(), "no colour is gray"


# The page

FILM = film(196, 280, 4095, np.uint16)
IMAGE = dicom(FILM, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096, BodyPartExamined="CHEST")
SHOWN = saved((FILM // 16).astype(np.uint8), "PNG")


def heat_map(row: int, column: int, height: int = 196, width: int = 280) -> bytes:
    rows, columns = np.mgrid[0:height, 0:width]
    return saved(np.maximum(0, 255 - 3 * np.hypot(rows - row, columns - column)).astype(np.uint8), "PNG")


def answers(image: bytes, view: bytes, heat: bytes, kind: str = "dicom") -> Callable[[Page], None]:
    """Return what scripts the responses about one image; `view` is the server's picture of it."""
    height, width = np.asarray(Pillow.open(BytesIO(view))).shape[:2]
    document = prediction(image)
    document["image"] |= {"format": kind, "width": width, "height": height}
    encoded = {"encoding": "png", "width": width, "height": height, "data": base64.b64encode(heat).decode()}
    explanation = document | {"explanation": encoded | {"method": "grad-cam", "label": "normal", "empty": False}}

    def respond(route: Route) -> None:
        if "image/png" in route.request.headers["accept"]:
            route.fulfill(content_type="image/png", body=view)
        else:
            route.fulfill(json=document)

    def prepare(page: Page) -> None:
        script(page, answer=respond)
        page.route("**/api/explanations/**", lambda route: route.fulfill(json=explanation))

    return prepare


def analysed(page: Page, name: str, image: bytes) -> Locator:
    choose(page, payload(name, image))
    result = shown(page, name)
    expect(result.locator("img.picture")).to_be_visible()
    return result


def shades(result: Locator) -> Pixels:
    canvas = result.locator("canvas.adjusted")
    expect(canvas).to_be_visible()
    return np.array(canvas.evaluate(SHADES)).reshape(FILM.shape)


def drag(page: Page, place: Locator, right: float, down: float, button: Any = "left") -> None:
    box = place.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up(button=button)


def test_the_window_of_a_dicom_file_is_computed_from_its_stored_values(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, model="chest", prepare=answers(IMAGE, SHOWN, heat_map(98, 140)))
    result = analysed(page, "film.dcm", IMAGE)
    expect(result.locator("canvas.adjusted")).to_be_hidden()
    stage, group = result.locator(".stage"), result.get_by_role("group", name="Window of film.dcm")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    stage.hover()
    expect(group).to_contain_text(
        "the model always gets the window of the file. Other windows are computed from the file's stored values"
    )
    level, width, preset = group.get_by_label("Level"), group.get_by_label("Width"), group.get_by_label("Window")
    expect(level).to_have_value("2048")
    expect(width).to_have_value("4096")

    width.fill("100")
    width.press("Enter")
    expect(preset).to_have_value("custom")
    narrow = shades(result)
    assert len(np.unique(narrow)) > 90, "more gray levels than the picture has in this range"
    expected = np.clip((FILM - 2047.5) / 99 + 0.5, 0, 1) * 255
    assert np.abs(narrow - expected).max() <= 0.51

    preset.select_option("Window of the file")
    expect(result.locator("canvas.adjusted")).to_be_hidden()
    group.get_by_role("button", name="Invert").click()
    np.testing.assert_array_equal(shades(result), 255 - FILM // 16)

    result.get_by_role("button", name="Window by dragging").click()
    drag(page, stage, 60, 0)
    assert float(width.input_value()) > 4150
    expect(level).to_have_value("2048")
    stage.press("r")
    expect(preset).to_have_value("own")
    expect(result.locator("canvas.adjusted")).to_be_hidden()
    stage.press("w")
    drag(page, stage, 0, -60, button="right")
    assert float(level.input_value()) < 2000, "up is brighter"
    assert shades(result).mean() > (FILM // 16).mean()
    stage.press("r")
    stage.press("Shift+ArrowLeft")
    assert float(width.input_value()) < 4000
    assert requests == [], "nothing that the viewer does is sent"


def test_another_format_than_dicom_is_windowed_by_its_gray_levels(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, model="chest", prepare=answers(SHOWN, SHOWN, heat_map(98, 140), "png"))
    result = analysed(page, "film.png", SHOWN)
    group = result.get_by_role("group", name="Window of film.png")
    group.get_by_label("Window").select_option("Image as sent")
    expect(group).to_contain_text("Other windows are computed from the 256 gray levels of the picture")
    group.get_by_label("Window").select_option("Dark areas")
    dark = shades(result)
    assert dark.mean() > (FILM // 16).mean() + 20
    group.get_by_label("Window").select_option("Full range")
    assert np.abs(shades(result) - FILM // 16).max() <= 1


@pytest.mark.firefox
def test_zoom_pan_and_actual_size_by_mouse_and_keys(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, model="chest", prepare=answers(SHOWN, SHOWN, heat_map(98, 140), "png"))
    result = analysed(page, "film.png", SHOWN)
    stage, image, level = result.locator(".stage"), result.locator("img.picture"), result.locator(".level")

    def size() -> int:
        box = image.bounding_box()
        assert box
        return round(box["width"])

    fitted = size()
    result.get_by_role("button", name="1:1").click()
    expect(level).to_have_text("1:1")
    assert size() == 280
    stage.press("0")
    expect(level).to_have_text("100%")
    assert size() == fitted
    stage.press("1")
    assert size() == 280
    result.get_by_role("button", name="Fit the image").click()
    for _ in range(3):
        stage.press("+")
    before = image.bounding_box()
    drag(page, stage, 40, 30)
    after = image.bounding_box()
    assert before
    assert after
    assert after["x"] - before["x"] == pytest.approx(40, abs=2)
    assert after["y"] - before["y"] == pytest.approx(30, abs=2)


def touch(session: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def test_two_fingers_zoom_and_one_moves_or_windows(opened: Opener, static_gateway: Gateway) -> None:
    prepare = answers(SHOWN, SHOWN, heat_map(98, 140), "png")
    page = opened(static_gateway.url, model="chest", prepare=prepare, **PHONE)
    result = analysed(page, "film.png", SHOWN)
    stage, image = result.locator(".stage"), result.locator("img.picture")
    stage.scroll_into_view_if_needed()
    fingers = page.context.new_cdp_session(page)
    frame, fitted = stage.bounding_box(), image.bounding_box()
    assert frame
    assert fitted
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    touch(fingers, "touchStart", (x - 30, y), (x + 30, y))
    for reach in (40, 50, 60):
        touch(fingers, "touchMove", (x - reach, y), (x + reach, y))
    touch(fingers, "touchEnd")
    expect(result.locator(".level")).to_have_text("200%")
    before = image.bounding_box()
    assert before
    assert before["width"] == pytest.approx(2 * fitted["width"], abs=3)
    assert before["x"] + before["width"] / 2 == pytest.approx(x, abs=4), "the centre stays"

    touch(fingers, "touchStart", (x, y))
    for way in (20, 40, 60):
        touch(fingers, "touchMove", (x + way, y + way / 2))
    touch(fingers, "touchEnd")
    after = image.bounding_box()
    assert after
    assert after["x"] - before["x"] == pytest.approx(60, abs=3)
    stage.press("w")
    touch(fingers, "touchStart", (x, y))
    for way in (10, 20, 40, 60):
        touch(fingers, "touchMove", (x, y - way))
    touch(fingers, "touchEnd")
    expect(result.get_by_label("Window", exact=True)).to_have_value("custom")
    assert image.bounding_box() == after


def test_a_heat_map_has_a_legend_and_warns_if_it_is_strongest_outside(opened: Opener, static_gateway: Gateway) -> None:
    body = saved(np.kron(thorax(), np.ones((2, 2))).astype(np.uint8), "PNG")
    for row, column, warns in ((10, 10, True), (128, 90, False)):
        prepare = answers(body, body, heat_map(row, column, 256, 256), "png")
        page = opened(static_gateway.url, model="chest", prepare=prepare)
        result = analysed(page, "film.png", body)
        expect(result.locator(".overlay-tools")).to_be_hidden()
        result.get_by_role("button", name="Show heat map").click()
        expect(result.get_by_role("img", name="Colours of the heat map")).to_be_visible()
        expect(result.locator(".overlay-tools")).to_contain_text("1 is the strongest in this image")
        expect(result.get_by_text(OUTSIDE)).to_be_visible(visible=warns)
        expect(page.locator("#announcement")).to_contain_text(OUTSIDE if warns else "heat map shown")
        result.get_by_role("button", name="Hide heat map").click()
        expect(result.locator(".overlay-tools")).to_be_hidden()


def test_a_heat_map_that_comes_before_its_image_is_judged_with_it(opened: Opener, static_gateway: Gateway) -> None:
    body = np.kron(thorax(), np.ones((2, 2))).astype(np.uint8)
    image = dicom(body, BodyPartExamined="CHEST")
    page = opened(
        static_gateway.url, model="chest", prepare=answers(image, saved(body, "PNG"), heat_map(10, 10, 256, 256))
    )
    held: list[Route] = []
    page.route(
        "**/api/predictions/**",
        lambda route: held.append(route) if "image/png" in route.request.headers["accept"] else route.fallback(),
    )
    choose(page, payload("film.dcm", image))
    result = shown(page, "film.dcm")
    result.get_by_role("button", name="Show heat map").click()
    expect(result.get_by_role("button", name="Hide heat map")).to_be_visible()
    expect(result.get_by_text(OUTSIDE)).to_be_hidden()
    held.pop().fallback()
    expect(result.get_by_text(OUTSIDE)).to_be_visible()
    expect(page.locator("#announcement")).to_contain_text(OUTSIDE)


LARGE = """async () => {
    const { Windowing } = await import("/js/windowing.js");
    const windowing = new Windowing("film");
    windowing.load({ width: 5000, height: 4000 }, null);
    await windowing.prepare();
    await windowing.invert();
    if (windowing.inversion.ariaPressed === "true") return "inverted";
    return [windowing.inversion.disabled, windowing.preset.disabled, windowing.note.textContent];
}"""


def test_an_image_that_is_too_large_for_a_canvas_keeps_its_window(modules: Page) -> None:
    assert modules.evaluate(LARGE) == [True, True, "This image is too large to adjust its window here."]


RELEASE = """async (data) => {
    const { Windowing } = await import("/js/windowing.js");
    const image = Object.assign(new Image(), { src: `data:image/png;base64,${data}` });
    await image.decode();
    const windowing = new Windowing("film");
    windowing.load(image, null);
    await windowing.prepare();
    windowing.release();
    const released = [windowing.sources, windowing.source.values];
    await windowing.invert();
    windowing.release();
    return [...released, windowing.sources.main.values.length];
}"""


def test_values_of_an_unchanged_view_are_released_and_read_again(modules: Page) -> None:
    assert modules.evaluate(RELEASE, base64.b64encode(SHOWN).decode()) == [None, None, 4 * 196 * 280]


REPLACE = """async ([first, second]) => {
    const { Viewer } = await import("/js/viewer.js");
    const picture = async data => {
        const image = Object.assign(new Image(), { src: `data:image/png;base64,${data}`, alt: "Slice" });
        await image.decode();
        return image;
    };
    const viewer = new Viewer({ width: 280, height: 196 }, "series");
    document.getElementById("results").append(viewer.element);
    viewer.show(await picture(first));
    viewer.zoomTo(2);
    await viewer.windowing.prepare();
    viewer.windowing.set({ level: 60, width: 80 });
    viewer.setOverlay(document.createElement("canvas"), "mask");
    viewer.show(await picture(second));
}"""


def test_another_image_of_the_same_viewer_keeps_zoom_window_and_overlay(modules: Page) -> None:
    second = saved((FILM[::-1] // 16).astype(np.uint8), "PNG")
    modules.evaluate(REPLACE, [base64.b64encode(data).decode() for data in (SHOWN, second)])
    viewer = modules.locator("#results > .viewer")
    expect(viewer.locator("img.picture")).to_have_count(1)
    expect(viewer.locator(".level")).to_have_text("200%")
    expect(viewer.locator("canvas.overlay")).to_have_count(1)
    expect(viewer.get_by_text("Marked by the model")).to_be_visible()
    expect(viewer.get_by_label("Window", exact=True)).to_have_value("custom")
    expected = np.clip((FILM[::-1] // 16 - 59.5) / 79 + 0.5, 0, 1) * 255
    modules.wait_for_function(
        "wanted => { const canvas = document.querySelector('#results canvas.adjusted');"
        " return canvas.getContext('2d').getImageData(0, 195, 1, 1).data[0] === wanted; }",
        arg=round(expected[195, 0]),
    )
    assert np.abs(shades(viewer) - expected).max() <= 0.51


@pytest.mark.parametrize(("device", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_axe_accepts_an_adjusted_film_and_all_controls_are_large(
    opened: Opener, static_gateway: Gateway, device: dict[str, Any], scheme: str
) -> None:
    prepare = answers(IMAGE, SHOWN, heat_map(98, 140))
    page = opened(static_gateway.url, model="chest", prepare=prepare, color_scheme=scheme, bypass_csp=True, **device)
    result = analysed(page, "film.dcm", IMAGE)
    result.get_by_role("button", name="Show heat map").click()
    result.locator(".stage").press("i")
    expect(result.locator("canvas.adjusted")).to_be_visible()
    if device is PHONE:
        result.locator(".windowing summary").tap()
    expect(result.get_by_role("button", name="Invert")).to_be_visible()
    assert faults(page) == []
    assert page.evaluate(SMALL) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    expect(page.get_by_role("link", name="API documentation")).to_have_attribute("href", "api/docs")
