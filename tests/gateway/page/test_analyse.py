"""Analysis of files on a desktop screen."""

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Locator, Page, Route, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, choose, inverted_dicom, jpeg, payload
from tests.gateways import Gateway
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

FOUND = "Pneumonia pattern: above the cut-off"
PATH = f"**/api/predictions/{NAME}"
PIXELS = """image => {
    const { naturalWidth: width, naturalHeight: height } = image;
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    context.drawImage(image, 0, 0);
    return [...context.getImageData(0, 0, width, height).data].filter((_, at) => at % 4 === 0);
}"""


def shown(page: Page, name: str) -> Locator:
    """Return the result card of a file."""
    result = page.locator(".result").filter(has=page.get_by_role("heading", name=name, exact=True))
    expect(result).to_have_count(1)
    return result


def natural(result: Locator) -> list[int]:
    picture = result.locator("img.picture")
    expect(picture).to_be_visible()
    size: list[int] = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return size


def assert_no_result(page: Page) -> None:
    expect(page.locator(".result")).to_have_count(0)
    expect(page.locator(".label")).to_have_count(0)


@pytest.mark.firefox
def test_jpeg_result_shows_label_probability_cutoff_and_model(page: Page, server: Server) -> None:
    data = jpeg()
    prediction = httpx.post(f"{server.url}/predictions/{NAME}", content=data).json()
    choose(page, payload("film.jpg", data))
    result = shown(page, "film.jpg")
    assert prediction["label"] == "pneumonia"
    expect(result.locator(".label")).to_have_text(FOUND)
    share = prediction["probabilities"]["pneumonia"]
    bar = result.get_by_role("img", name="Probability of pneumonia")
    cutoff = f"{100 * prediction['threshold']:.1f}%"
    assert f"cut-off {cutoff}" in (bar.get_attribute("aria-label") or "")
    expect(result.get_by_text(f"Above the {cutoff} cut-off, so reported as pneumonia.")).to_be_visible()
    widths: list[float] = bar.evaluate(
        "bar => ['fill', 'threshold'].map(name => bar.querySelector(`.${name}`).getBoundingClientRect()).map("
        "({ left, width }, index) => (index ? left + width / 2 - bar.getBoundingClientRect().left : width)"
        " / bar.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([share, prediction["threshold"]], abs=0.005)
    result.get_by_text("Details", exact=True).click()
    expect(result.get_by_role("button", name=f"({NAME}), version 1.0.0")).to_be_visible()
    assert natural(result) == [280, 196]
    expect(page.locator("#rejections")).to_be_hidden()
    expect(page.locator("#announcement")).to_contain_text(f"film.jpg: {FOUND}, probability of pneumonia")


def test_heat_map_overlays_image(page: Page) -> None:
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    result = shown(page, "film.png")
    result.get_by_role("button", name="Show heat map").click()
    overlay = result.locator("canvas.overlay")
    expect(overlay).to_be_visible()
    assert overlay.bounding_box() == result.locator("img.picture").bounding_box()
    slider = result.get_by_label("Opacity of the heat map")
    slider.fill("20")
    expect(overlay).to_have_css("opacity", "0.2")
    before = overlay.bounding_box()
    result.get_by_role("button", name="Zoom in").click()
    expect(result.locator(".level")).to_have_text("140%")
    after, picture = overlay.bounding_box(), result.locator("img.picture").bounding_box()
    assert before
    assert after
    assert after["width"] == pytest.approx(1.4 * before["width"], abs=2)
    assert after == picture
    result.get_by_role("button", name="Fit the image").click()
    assert overlay.bounding_box() == before
    result.get_by_role("button", name="Hide heat map").click()
    expect(overlay).to_have_count(0)


def test_downloads_match_prediction(page: Page, tmp_path: Path) -> None:
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    result = shown(page, "film.png")
    result.get_by_role("button", name="Show heat map").click()
    expect(result.locator("canvas.overlay")).to_be_visible()
    kept = {}
    for button in ("Result (JSON)", "Picture (PNG)", "Heat map (PNG)"):
        with page.expect_download() as download:
            result.get_by_role("button", name=button).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        kept[path.name] = path.read_bytes()
    assert sorted(kept) == [f"film.{NAME}.{kind}" for kind in ("heat.png", "json", "overlay.png")]
    answer = json.loads(kept[f"film.{NAME}.json"])
    assert answer["image"]["sha256"] == hashlib.sha256(SAMPLE.read_bytes()).hexdigest()
    heat = Pillow.open(BytesIO(kept[f"film.{NAME}.heat.png"]))
    assert (heat.mode, heat.size) == ("L", (280, 196))
    picture = Pillow.open(BytesIO(kept[f"film.{NAME}.overlay.png"]))
    assert picture.height > 2 * 196  # enlarged twice, with a caption


@pytest.mark.parametrize("real", [False, True])
def test_dicom_is_shown_as_server_decoded_it(page: Page, request: pytest.FixtureRequest, real: bool) -> None:
    data = inverted_dicom()
    if real:
        folder: Path = request.getfixturevalue("shared")
        data = (folder / "dicom" / "pydicom+pydicom-data__RG1_J2KI.dcm").read_bytes()
        data = data.replace(b"19400305", b"20010305")  # the birth date of a child
    choose(page, payload("chest.dcm", data))
    result = shown(page, "chest.dcm")
    width, height = natural(result)
    result.get_by_text("Details", exact=True).click()
    expect(result.get_by_text(f"DICOM, {width} \N{MULTIPLICATION SIGN} {height} pixels")).to_be_visible()
    if not real:
        pixels = result.locator("img.picture").evaluate(PIXELS)
        film = np.asarray(Pillow.open(SAMPLE)).astype(int)
        assert np.abs(np.array(pixels).reshape(film.shape) - film).max() <= 2  # the inversion is undone


def test_rejected_file_shows_reason_and_no_label(page: Page) -> None:
    for name, content, text, detail in (
        ("cut.jpg", jpeg()[:900], "Damaged or incomplete file. Export it again.", "Details: "),
        ("notes.txt", b"hello", "Unsupported file type. Export as DICOM, PNG or JPEG.", "Details: "),
        ("empty.png", b"", "This file is empty.", ""),
        ("slices.zip", b"PK\3\4 and so on", "This zip file is damaged or incomplete.", "Export it again."),
        ("report.pdf", b"%PDF-1.7", "PDFs cannot be read. Export the image as PNG.", ""),
    ):
        choose(page, payload(name, content))
        rejections = page.get_by_role("region", name="Could not be analysed")
        rejection = rejections.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))
        expect(rejection).to_contain_text(text)
        expect(rejection).to_contain_text(detail)
        expect(page.locator("#alert")).to_contain_text(f"{name} could not be analysed")
        assert_no_result(page)
        rejection.get_by_role("button", name="Dismiss").click()
        expect(rejections).to_be_hidden()


def test_files_get_separate_results(page: Page) -> None:
    good = [payload(f"film-{number}.png", SAMPLE.read_bytes()) for number in range(5)]
    choose(page, *good[:3], payload("broken.png", b"\x89PNG\r\n\x1a\n cut"), *good[3:])
    table = page.get_by_role("region", name="6 files")
    expect(table.get_by_text("6 of 6 done.")).to_be_visible()
    for name in ("Positive 5", "Not analysed 1"):
        expect(table.get_by_role("button", name=name)).to_be_visible()
    broken = table.get_by_role("row").filter(has_text="broken.png")
    expect(broken).to_contain_text("Damaged or incomplete file. Export it again.")
    expect(page.locator("#progress")).to_be_hidden()
    assert_no_result(page)
    choose(page, *good[:2])
    expect(page.locator(".result")).to_have_count(2)
    page.get_by_role("button", name="Clear results").click()
    assert_no_result(page)


def tampered(route: Route, change: dict[str, Any]) -> None:
    """Respond with a changed document of the server."""
    response = route.fetch()
    route.fulfill(response=response, json=response.json() | change)


def test_inconsistent_prediction_is_not_shown(page: Page) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"image": {"format": "png", "width": 280, "height": 196, "sha256": "0" * 64}}, "about another image"),
        ({"model": {"name": "other", "version": "1.0.0", "sha256": "0" * 64}}, "from another model"),
        ({"label": "normal"}, "label and probability contradict"),
        (
            {"label": "tumour", "probabilities": {"normal": 0, "tumour": 1}, "probability": 1, "certainty": None},
            "does not have this label",
        ),
        ({"positive": False}, "label and decision contradict"),
        ({"threshold": 1}, "decision and cut-off contradict"),
        ({"probabilities": {"normal": 0.9, "pneumonia": 0.9}}, "do not add up"),
        ({"predictions": []}, "several images"),
    ]
    for change, why in changes:
        page.route(PATH, lambda route, _, change=change: tampered(route, change))
        choose(page, payload("film.png", SAMPLE.read_bytes()))
        expect(page.locator("#rejection-list > li")).to_contain_text(why)
        assert_no_result(page)
        page.unroute(PATH)
        page.get_by_role("button", name="Dismiss all").click()


def test_an_uncertain_result_makes_no_claim(page: Page) -> None:
    sets = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
    change = {"certainty": sets, "prevalence": 0.5}
    page.route(PATH, lambda route: tampered(route, change))
    choose(page, payload("film.jpg", jpeg()))
    result = shown(page, "film.jpg")
    expect(result.locator(".label")).to_have_text("Uncertain: no reliable label")
    expect(result.locator(".label")).to_have_class("label uncertain")
    expect(result.locator(".uncertainty")).to_contain_text(
        "The image fits both labels, or its probability is too close to the cut-off."
    )
    expect(result).not_to_contain_text("reported as")
    expect(result.get_by_text("assumes that 50% of the images are positive")).to_be_visible()
    expect(page.locator("#announcement")).to_have_text("film.jpg: Uncertain: no reliable label.")


def test_error_never_shows_label(page: Page) -> None:
    for status, media, body in (
        (500, "application/json", '{"label": "normal", "probability": 1}'),
        (201, "application/json", '{"label": "normal", "probability": 1}'),
        (200, "text/html", "<p class=label>normal</p>"),
        (200, "application/json", "normal"),
        (503, "application/problem+json", '{"title": "<b>Busy</b>", "detail": "<p class=label>normal</p>"}'),
    ):
        reply = {"status": status, "content_type": media, "body": body}
        page.route(PATH, lambda route, _, reply=reply: route.fulfill(**reply))
        choose(page, payload("film.png", SAMPLE.read_bytes()))
        expect(page.locator("#rejection-list > li")).to_have_count(1)
        assert_no_result(page)
        page.unroute(PATH)
        page.get_by_role("button", name="Dismiss all").click()


def test_a_file_dropped_before_the_models_are_loaded_is_analysed_afterwards(opened: Opener, gateway: Gateway) -> None:
    page = opened("about:blank", ready=False)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/models", hold)
    page.goto(gateway.url)
    choose(page, payload("film.jpg", jpeg()))
    expect(page.locator("#waiting")).to_contain_text("1 file is waiting: film.jpg.")
    assert_no_result(page)
    held[0].continue_()
    expect(shown(page, "film.jpg").locator(".label")).not_to_be_empty()
    expect(page.locator("#rejections")).to_be_hidden()


def test_lost_connection_can_be_retried(page: Page) -> None:
    page.route("**/api/predictions/**", lambda route: route.abort())
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(page.locator("#rejection-list")).to_contain_text("No connection")
    assert_no_result(page)
    page.unroute("**/api/predictions/**")
    page.get_by_role("button", name="Try again").click()
    shown(page, "film.png")
    expect(page.locator("#rejections")).to_be_hidden()


def test_heat_map_of_other_prediction_is_not_shown(page: Page) -> None:
    page.route(
        "**/api/explanations/**",
        lambda route: tampered(route, {"model": {"name": NAME, "version": "1.0.0", "sha256": "0" * 64}}),
    )
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    result = shown(page, "film.png")
    result.get_by_role("button", name="Show heat map").click()
    expect(page.locator("#rejection-list")).to_contain_text("from another archive")
    expect(result.locator("canvas.overlay")).to_have_count(0)
    expect(result.locator(".label")).to_have_text(FOUND)


def test_model_warning_is_shown_with_label(page: Page) -> None:
    page.route(PATH, lambda route: tampered(route, {"warning": "Untrained: random weights."}))
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(shown(page, "film.png").locator(".warning")).to_have_text("Warning: Untrained: random weights.")


def test_result_lists_what_was_checked_assured_and_unknown(page: Page) -> None:
    page.get_by_label("Age in years").fill("5")
    page.get_by_label("View", exact=True).select_option("PA")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    scope = shown(page, "film.png").locator(".scope")
    expect(scope).to_contain_text("Assured by you")
    expect(scope).to_contain_text("Age 5, View PA")
    unknown = scope.get_by_text("Not checked: Species, Modality, Body part")
    expect(unknown).to_be_hidden()
    scope.get_by_text("A PNG file does not state species, modality …: check them yourself").click()
    expect(unknown).to_be_visible()
    # The next file may be of another patient.
    expect(page.get_by_label("Age in years")).to_have_value("")
    expect(page.get_by_label("View", exact=True)).to_have_value("")
    choose(page, payload("child.dcm", inverted_dicom()))
    expect(shown(page, "child.dcm").locator(".scope")).to_contain_text("Modality, Body part, View")
    choose(page, payload("other.png", jpeg()))
    expect(shown(page, "other.png").locator(".scope")).not_to_contain_text("Assured by you")


def test_image_without_a_required_attribute_is_sent_again_with_what_was_filled_in(page: Page) -> None:
    sent: list[str | None] = []

    def respond(route: Route) -> None:
        sent.append(route.request.headers.get("x-assurances"))
        if sent[-1] is None:
            problem = {"title": "Missing attribute", "status": 422, "detail": "age (age of the patient)"}
            route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem))
        else:
            route.continue_()

    page.route(PATH, respond)
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(page.locator("#rejection-list")).to_contain_text("Fill in age or view, then try again.")
    expect(page.locator("#rejection-list")).to_contain_text("The file must state everything else")
    page.get_by_label("Age in years").fill("5")
    page.get_by_role("button", name="Try again").click()
    expect(shown(page, "film.png").locator(".scope")).to_contain_text("Age 5")
    assert sent == [None, "age=5"]


def test_image_out_of_scope_has_no_result(page: Page) -> None:
    page.get_by_label("Age in years").fill("61")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(page.locator("#rejection-list")).to_contain_text("This model was not made for this image or patient.")
    expect(page.locator("#rejection-list")).to_contain_text("age of the patient is out of scope")
    assert_no_result(page)


def test_phone_shows_sample_result_and_disclaimer(opened: Opener, gateway: Gateway) -> None:
    page = opened(gateway.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Try the sample").tap()
    result = shown(page, f"{NAME}-sample.png")
    expect(result.get_by_role("heading", name=f"{NAME}-sample.png")).to_be_in_viewport()
    expect(result.locator(".label")).to_be_in_viewport(ratio=1)
    expect(result.locator("img.picture")).to_be_in_viewport(ratio=0.9)
    for place in ("document.body.scrollHeight", "0"):
        page.evaluate(f"window.scrollTo(0, {place})")
        expect(page.get_by_text("Not a medical device.")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
