"""Viewer: window, zoom, touch, overlay."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import CDPSession, Locator, Page, Route, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.films import FILM, IMAGE, SHOWN, Pixels, heat_map, thorax
from tests.gateway.page.scripted import script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_phone import SMALL
from tests.gateways import Gateway
from tests.handlers.images import dicom, saved

pytestmark = pytest.mark.e2e
SHADES = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, at) => at % 4 === 0);
}"""
CUT = """select => {
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    context.font = getComputedStyle(select).font;
    const { width } = context.measureText(select.selectedOptions[0].text);
    return width + 32 > select.clientWidth;
}"""
OUTSIDE = "strongest outside the body"


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
    # A change is drawn in the next frame.
    canvas.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
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
    expect(level).to_have_value("2048")  # of the file, before anything is done
    expect(width).to_have_value("4096")
    assert preset.evaluate(CUT) is False
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


@pytest.mark.firefox
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


@pytest.mark.firefox
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
