"""The controls of the window."""

import base64

import pytest
from playwright.sync_api import Page

from tests.gateway.page.films import SHOWN

pytestmark = pytest.mark.e2e
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
