"""Mask of a result: its outline, its area, and the key that hides it."""

import base64
import itertools
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import Locator, Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.modules import call
from tests.gateway.page.scripted import PREDICTIONS, catalog, script
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_phone import SMALL
from tests.gateways import Gateway
from tests.handlers.images import film, saved

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 40, 60
IMAGE = saved(film(HEIGHT, WIDTH), "PNG")
MAGENTA = (255, 0, 255)
CONTOUR = """async ([marked, width, height]) =>
    (await import("/js/contour.js")).contour(Uint8Array.from(marked), width, height)"""


READS = """async () => {
    const { OverlayView } = await import("/js/overlay_view.js");
    const mask = document.createElement("canvas");
    const context = mask.getContext("2d", { willReadFrequently: true });
    const read = context.getImageData.bind(context);
    let reads = 0;
    context.getImageData = (...area) => { reads += 1; return read(...area); };
    const view = new OverlayView(document.createElement("div"), "tumour");
    for (const shown of [mask, null, mask]) view.set(shown, "mask");
    return reads;
}"""


def figure() -> NDArray[np.bool_]:
    """Return a ring, and a patch that touches a corner of the image."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(rows - 20, columns - 30)
    mask: NDArray[np.bool_] = (distance < 12) & (distance > 5)
    mask[:6, :6] = True
    return mask


def outline(mask: NDArray[np.bool_]) -> dict[str, Any]:
    document = prediction(IMAGE, probability=..., probabilities=..., label="tumour", positive=True)
    document["image"] |= {"width": WIDTH, "height": HEIGHT}
    data = base64.b64encode(saved(np.where(mask, 255, 0).astype(np.uint8), "PNG")).decode()
    pixels = int(mask.sum())
    return document | {
        "model": {"name": "slices", "version": "1.0.0", "sha256": "a" * 64},
        "mask": {"encoding": "png", "width": WIDTH, "height": HEIGHT, "data": data},
        "area": {"pixels": pixels, "fraction": pixels / mask.size},
        "box": {"left": 0, "top": 0, "width": WIDTH, "height": HEIGHT},
    }


def result(opener: Opener, gateway: Gateway, **options: Any) -> Locator:
    def prepare(page: Page) -> None:
        models = catalog()
        models["models"][-1]["versions"][0]["display"]["finding"] = "glioma"
        script(page, models)
        page.route(PREDICTIONS, lambda route: route.fulfill(json=outline(figure())))

    page = opener(gateway.url, model="slices", prepare=prepare, **options)
    choose(page, payload("slice.png", IMAGE))
    card = shown(page, "slice.png")
    expect(card.locator(".contour path")).to_have_count(1)
    return card


def edges(path: str) -> set[tuple[int, int, int, int]]:
    """Return the sides of pixels on a path of horizontal and vertical lines."""
    sides = set()
    for part in path.split("M")[1:]:
        start, _, end = part.partition("H" if "H" in part else "V")
        x, y = map(int, start.split())
        stop = int(end)
        sides |= {(at, y, at + 1, y) for at in range(x, stop)} if "H" in part else set()
        sides |= {(x, at, x, at + 1) for at in range(y, stop)} if "V" in part else set()
    return sides


def test_a_contour_is_every_side_between_a_marked_pixel_and_another_one(
    opened: Opener, static_gateway: Gateway
) -> None:
    page = opened(static_gateway.url, ready=False)
    empty, whole = np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)
    random = np.random.default_rng(1).random((HEIGHT, WIDTH)) > 0.5
    for mask in (empty, whole, figure(), random):
        path = page.evaluate(CONTOUR, [mask.astype(int).ravel().tolist(), WIDTH, HEIGHT])
        padded = np.pad(mask, 1)
        wanted = set()
        for y, x in itertools.product(range(HEIGHT + 1), range(WIDTH + 1)):
            if padded[y, x + 1] != padded[y + 1, x + 1]:
                wanted.add((x, y, x + 1, y))
            if padded[y + 1, x] != padded[y + 1, x + 1]:
                wanted.add((x, y, x, y + 1))
        assert edges(path) == wanted
    assert call(page, "contour", "contour", random.astype(int).ravel().tolist(), WIDTH, HEIGHT, 50) is None
    assert page.evaluate(READS) == 1  # a slice that is shown again keeps its outline


def screen(stage: Locator) -> NDArray[Any]:
    """Return the pixels that the reader sees."""
    return np.asarray(Pillow.open(BytesIO(stage.screenshot())).convert("RGB")).astype(int)


def magenta(pixels: NDArray[Any]) -> int:
    return int((np.abs(pixels - MAGENTA).max(axis=-1) < 40).sum())


def thickness(pixels: NDArray[Any]) -> int:
    """Return the most frequent length of a run of the mask's colour along the rows."""
    marked = np.abs(pixels - MAGENTA).max(axis=-1) < 40
    runs = Counter(len(list(run)) for row in marked for value, run in itertools.groupby(row) if value)
    return runs.most_common(1)[0][0]


def test_a_mask_is_a_thin_outline_at_every_zoom_until_its_area_is_chosen(
    opened: Opener, static_gateway: Gateway
) -> None:
    card = result(opened, static_gateway)
    stage = card.locator(".stage")
    line = card.locator(".contour path")
    expect(card.locator(".overlay-tools")).to_contain_text("Glioma, as marked by the model")
    expect(card.get_by_label("Opacity of the mask")).to_be_hidden()
    fitted = card.locator(".sheet").bounding_box()
    assert fitted
    scale = fitted["width"] / WIDTH
    for level in ("100%", "274%"):
        expect(card.locator(".level")).to_have_text(level)
        assert thickness(screen(stage)) in (1, 2, 3)
        card.get_by_role("button", name="Zoom in").click(click_count=3)
    card.get_by_role("button", name="Fit the image").click()
    card.get_by_role("button", name="Area").click()
    expect(card.get_by_role("button", name="Area")).to_have_attribute("aria-pressed", "true")
    expect(line).to_be_hidden()
    card.get_by_label("Opacity of the mask").fill("100")
    assert magenta(screen(stage)) == pytest.approx(figure().sum() * scale**2, rel=0.1)
    card.get_by_role("button", name="Outline").click()
    assert magenta(screen(stage)) < 0.5 * figure().sum() * scale**2


def test_a_key_hides_and_shows_the_mask(opened: Opener, static_gateway: Gateway, tmp_path: Path) -> None:
    card = result(opened, static_gateway)
    stage = card.locator(".stage")
    assert "H hides and shows the mask" in (stage.get_attribute("aria-label") or "")

    def saved_picture() -> tuple[str, int]:
        with card.page.expect_download() as download:
            card.get_by_role("button", name="Picture (PNG)").click()
        download.value.save_as(tmp_path / "picture.png")
        return download.value.suggested_filename, magenta(
            np.asarray(Pillow.open(tmp_path / "picture.png").convert("RGB")).astype(int)
        )

    name, drawn = saved_picture()
    assert name == "slice.slices.overlay.png"
    assert drawn > 0
    stage.press("h")
    expect(card.locator(".contour")).to_be_hidden()
    expect(card.get_by_role("button", name="Show mask")).to_be_visible()
    assert magenta(screen(stage)) == 0
    assert saved_picture() == ("slice.slices.picture.png", 0)
    card.get_by_role("button", name="Show mask").click()
    expect(card.locator(".contour")).to_be_visible()


def test_a_key_hides_and_shows_the_heat_map(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, model="chest", prepare=script)
    heat = base64.b64encode(saved(np.full((10, 20), 200, np.uint8), "PNG")).decode()
    sent = saved(film()[:10, :20], "PNG")
    explanation = {"encoding": "png", "width": 20, "height": 10, "data": heat, "method": "grad-cam", "label": "normal"}
    document = prediction(sent, explanation=explanation | {"empty": False})
    page.route("**/api/explanations/**", lambda route: route.fulfill(json=document))
    choose(page, payload("film.png", sent))
    card = shown(page, "film.png")
    for count, name in ((1, "Hide heat map"), (0, "Show heat map"), (1, "Hide heat map")):
        card.locator(".stage").press("h")
        expect(card.get_by_role("button", name=name)).to_be_visible()
        expect(card.locator("canvas.overlay")).to_have_count(count)


def test_axe_accepts_an_outline_and_its_controls_are_large(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, color_scheme="dark", bypass_csp=True, **PHONE)
    card.get_by_role("button", name="Area").tap()
    assert faults(card.page) == []
    assert card.page.evaluate(SMALL) == []
    assert card.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
