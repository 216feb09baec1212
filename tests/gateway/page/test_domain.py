"""Images unlike the training images, and their repair, on the page."""

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Locator, Page, Route, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, choose, payload
from tests.gateway.page.test_accessibility import faults
from tests.gateway.page.test_analyse import FOUND, PIXELS, assert_no_result, shown
from tests.gateways import Gateway
from tests.handlers.images import saved
from tests.repack import NAME

pytestmark = pytest.mark.e2e

PATH = f"**/api/predictions/{NAME}"
UPRIGHT = np.asarray(Pillow.open(SAMPLE).convert("L"))
UNUSUAL = {"mode": "strict", "status": "unusual", "score": 1.2, "percentile": 98.4, "reason": None}
UNLIKE = UNUSUAL | {"status": "unlike", "percentile": 100}
ADVICE = "Turn it, or repeat the request with repair=rotate-270."
"""What the API tells programmers."""


def answer(page: Page, domain: dict[str, Any] | None, **changes: Any) -> None:
    """Replace the comparison with the training images in the server's predictions."""

    def respond(route: Route) -> None:
        response = route.fetch()
        document = {key: value for key, value in response.json().items() if key != "domain"}
        route.fulfill(response=response, json=document | ({} if domain is None else {"domain": domain}) | changes)

    page.route(PATH, respond)


def refuse(page: Page, reason: str | None, path: str = PATH, **further: str) -> None:
    """Refuse images as unlike the training images; a request with a repair has another path."""
    problem = {"status": 422, "title": "Unlike the training images", "detail": ADVICE}
    body = json.dumps(problem | {"domain": UNLIKE | {"reason": reason} | further})
    page.route(path, lambda route: route.fulfill(status=422, content_type="application/problem+json", body=body))


def analysed(page: Page) -> Locator:
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    return shown(page, "film.png")


def assert_no_finding(result: Locator) -> None:
    """No claim is made, as of other results: large label, cut-off, or what is reported."""
    expect(result.get_by_text("Model output, do not rely on it")).to_be_visible()
    expect(result.locator(".label")).to_have_count(0)
    expect(result).not_to_contain_text("reported as")
    expect(result).not_to_contain_text("cut-off")


def test_a_normal_image_has_a_finding(page: Page) -> None:
    answer(page, UNUSUAL | {"status": "normal", "percentile": 40})
    result = analysed(page)
    expect(result.locator(".label")).to_have_text(FOUND)
    expect(result).to_contain_text("Image checkLike the training images")
    expect(result.locator(".doubt")).to_have_count(0)


def test_an_unusual_image_has_no_finding(page: Page) -> None:
    answer(page, UNUSUAL)
    result = analysed(page)
    expect(result.locator(".doubt")).to_contain_text("Unusual image (farther off than 98.4% of the held-out images)")
    assert_no_finding(result)
    expect(result.locator(".output")).to_have_text("Pneumonia pattern")
    expect(page.locator("#announcement")).to_have_text("film.png: No result: unusual image.")
    headings = result.locator(".facts h4").all_inner_texts()
    assert headings[0] == "What to do next"
    page.emulate_media(media="print")
    expect(result.locator(".verdict")).to_have_text(re.compile("No result: unusual image$"))
    expect(page.locator("#side")).to_be_hidden()
    page.emulate_media(media="screen")


@pytest.mark.parametrize(
    ("reason", "sentence", "button", "repair", "quarters"),
    [
        ("rotated_90", "turned by 90 degrees to the right", "Turn by 90 degrees and analyse again", "rotate-270", -1),
        ("rotated_180", "upside down", "Turn by 180 degrees and analyse again", "rotate-180", 2),
        ("rotated_270", "turned by 90 degrees to the left", "Turn by 90 degrees and analyse again", "rotate-90", 1),
        ("inverted", "inverted, with light and dark areas swapped", "Invert and analyse again", "invert", 0),
    ],
)
def test_a_refused_image_is_repaired_on_request(
    page: Page, reason: str, sentence: str, button: str, repair: str, quarters: int
) -> None:
    refuse(page, reason)
    sent = np.rot90(UPRIGHT, quarters) if quarters else 255 - UPRIGHT
    choose(page, payload("film.png", saved(sent, "PNG")))
    rejection = page.locator("#rejection-list")
    expect(rejection).to_contain_text("unlike the images that this model was trained on")
    expect(rejection).to_contain_text(f"It may show another body part. If it does not, it appears to be {sentence}.")
    expect(rejection).not_to_contain_text("repair=")
    expect(rejection.get_by_role("button")).to_have_text(["Choose another kind of image", button, "Dismiss"])
    assert_no_result(page)
    with page.expect_request(lambda request: request.url.endswith(f"/{NAME}?repair={repair}")):
        rejection.get_by_role("button", name=button).click()
    result = page.locator(".result")
    expect(result.locator(".repaired")).to_contain_text("before the analysis, as you asked")
    expect(result.locator(".repaired")).to_contain_text("compare the side marker")
    expect(result.get_by_role("heading", name="film.png (")).to_be_visible()
    picture = result.locator("img.picture")
    expect(picture).to_be_visible()
    shown_pixels = np.array(picture.evaluate(PIXELS)).reshape(UPRIGHT.shape)
    np.testing.assert_array_equal(shown_pixels, UPRIGHT)
    result.get_by_role("button", name="Show heat map").click()
    expect(result.locator("canvas.overlay")).to_be_visible()


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("other_image", "another body part, or be turned"),
        ("dark", "or has wider margins"),
        (None, "turned by 90 degrees to the right or to the left"),
    ],
)
def test_another_image_is_refused_without_a_repair(page: Page, reason: str | None, text: str) -> None:
    refuse(page, reason)
    choose(page, payload("page.png", SAMPLE.read_bytes()))
    rejection = page.locator("#rejection-list")
    expect(rejection).to_contain_text(text)
    expect(rejection.get_by_role("button")).to_have_text(["Choose another kind of image", "Dismiss"])
    assert_no_result(page)


def test_no_repair_is_offered_where_the_file_would_contradict_it(page: Page) -> None:
    refuse(page, "rotated_90", contradicts="orientation")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    rejection = page.locator("#rejection-list")
    expect(rejection).to_contain_text("The file's orientation contradicts its pixels; correct the file.")
    expect(rejection.get_by_role("button")).to_have_text(["Choose another kind of image", "Dismiss"])


def test_a_repair_is_offered_once(page: Page) -> None:
    refuse(page, "rotated_90")
    refuse(page, "inverted", f"{PATH}?repair=*")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    page.get_by_role("button", name="Turn by 90 degrees and analyse again").click()
    again = page.locator(".rejection").filter(has_text="film.png (turned by 90 degrees to the left)")
    expect(again.get_by_role("button")).to_have_text(["Choose another kind of image", "Dismiss"])
    expect(again).to_contain_text("still unlike the training images")
    expect(again).to_contain_text(
        "after it was turned by 90 degrees to the left, so it probably shows another body part"
    )


def test_reasons_of_a_repaired_image_do_not_contradict_its_status(page: Page) -> None:
    texts = page.evaluate(
        """async domains => {
            const { reasonText } = await import("/js/domain.js");
            return domains.map((domain) => reasonText(domain, null, "rotate-180"));
        }""",
        [UNUSUAL, UNLIKE | {"near": True}],
    )
    assert texts[0].startswith("It may be of the right kind")
    assert texts[1].startswith("It is just beyond the limit, so it may be a good image")


def test_a_server_that_only_warns_shows_an_unlike_image_without_a_finding(page: Page) -> None:
    answer(page, UNLIKE | {"mode": "warn", "reason": "rotated_90"}, warning=f"This image is unlike. {ADVICE}")
    result = analysed(page)
    expect(result.locator(".doubt")).to_contain_text(
        "Unlike the training images (farther off than all held-out images)"
    )
    expect(result).not_to_contain_text("repair=")
    assert_no_finding(result)
    result.get_by_role("button", name="Turn by 90 degrees and analyse again").click()
    expect(page.locator(".repaired")).to_contain_text("turned by 90 degrees to the left")


def test_the_note_on_a_sample_says_that_it_is_synthetic(page: Page) -> None:
    answer(page, UNLIKE | {"reason": "rotated_90"})
    page.get_by_role("button", name="Try the sample").click()
    note = page.locator(".result .doubt")
    expect(note).to_contain_text("It is a synthetic image.")
    expect(note.get_by_role("button")).to_have_count(0)


def test_a_result_says_that_the_check_is_off(page: Page) -> None:
    answer(page, {"mode": "off"})
    expect(analysed(page)).to_contain_text("Not compared with the training images (the operator switched this off)")


def test_a_result_of_a_model_without_a_detector_says_so(page: Page) -> None:
    answer(page, None)
    expect(analysed(page)).to_contain_text("Not compared: this model has no detector")


@pytest.mark.parametrize(
    "domain", [{"mode": "lax"}, UNUSUAL | {"status": "fine"}, UNUSUAL | {"percentile": 101}, {"mode": "strict"}, "off"]
)
def test_an_invalid_comparison_is_never_shown_as_a_result(page: Page, domain: Any) -> None:
    answer(page, domain)
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(page.locator("#rejection-list")).to_contain_text("The server's response is invalid")
    assert_no_result(page)


def test_a_result_of_the_unchanged_image_is_not_shown_as_that_of_the_repaired_one(page: Page) -> None:
    refuse(page, "rotated_90")
    page.route(f"{PATH}?repair=*", lambda route: route.continue_(url=route.request.url.partition("?")[0]))
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    page.get_by_role("button", name="Turn by 90 degrees and analyse again").click()
    expect(page.locator("#rejection-list")).to_contain_text("The server's response is invalid")
    assert_no_result(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_accepts_unusual_repaired_and_refused_images(opened: Opener, gateway: Gateway, scheme: str) -> None:
    page = opened(gateway.url, color_scheme=scheme, bypass_csp=True)
    answer(page, UNUSUAL | {"reason": "inverted"})
    result = analysed(page)
    expect(result.locator("img.picture")).to_be_visible()
    result.get_by_role("button", name="Invert and analyse again").click()
    expect(page.locator(".repaired")).to_be_visible()
    refuse(page, "rotated_90")
    choose(page, payload("other.png", SAMPLE.read_bytes()))
    expect(page.get_by_role("button", name="Turn by 90 degrees and analyse again")).to_be_visible()
    assert faults(page) == []


def test_the_history_marks_unusual_and_repaired_images(page: Page) -> None:
    entry: dict[str, Any] = {"time": "2026-03-01T00:00:00Z", "verb": "predictions", "model": NAME, "version": "1.0.0"}
    entry |= {"label": "pneumonia", "probability": 0.9, "positive": True, "client": "ward", "filename": "film.png"}
    kinds: list[dict[str, Any]] = [
        {"domain": "unusual"},
        {"domain": "normal", "repair": "rotate-90"},
        {"domain": "off"},
        {"domain": None},
    ]
    results = [entry | {"id": f"{number:032}", "image_sha256": "a" * 64} | kind for number, kind in enumerate(kinds)]
    page.route("**/api/results?*", lambda route: route.fulfill(json={"results": results, "next": None}))
    page.route("**/api/results", lambda route: route.fulfill(json={"results": results, "next": None}))
    page.get_by_role("link", name="History").click()
    cells = page.locator("#history-rows td.what")
    expect(cells).to_have_text(
        [
            "No result: unusual image",
            "Pneumonia patternImage turned by 90 degrees to the right",
            "Pneumonia patternImage not checked",
            "Pneumonia pattern",
        ]
    )
    expect(page.locator("#history-rows .tag.marked")).to_have_count(3)
    expect(page.locator("#history-rows td.number").first).to_have_text("\N{EN DASH}")
    expect(page.locator("#history-rows .tag").first).to_have_text("No result: unusual image")
