"""Order and wording of a result: what was found, how sure, for whom, how often right, what next."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, catalog, script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_prediction import segmentation
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

POSITIVE: dict[str, Any] = {"label": "pneumonia", "positive": True, "probability": 0.9, "prevalence": 0.5}
POSITIVE |= {"probabilities": {"normal": 0.1, "pneumonia": 0.9}}
NEGATIVE: dict[str, Any] = {"prevalence": 0.5}
SURE = {"status": "certain", "prediction_set": ["pneumonia"], "level": 0.9}
CONTRADICTED = {
    "status": "uncertain",
    "prediction_set": ["normal", "pneumonia"],
    "level": 0.9,
    "second_label": "pneumonia",
}
UNSURE = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
UNLIKE = {"mode": "warn", "status": "unlike", "score": 1.3, "percentile": 100, "reason": "other_image"}
UNUSUAL = UNLIKE | {"mode": "strict", "status": "unusual", "percentile": 98.4}
RANKED: dict[str, Any] = {"label": "day", "probability": 0.7, "probabilities": {"day": 0.7, "night": 0.3}}
RANKED |= {"positive": None, "threshold": None}


def result(opener: Opener, gateway: Gateway, document: dict[str, Any], models: Any = None, **options: Any) -> Locator:
    """Open the page, and analyse an image with scripted responses."""
    chosen = {"model": "chest"} | options
    page = opener(gateway.url, prepare=lambda page: answer(page, document, models, chosen["model"]), **chosen)
    choose(page, payload("film.png", IMAGE))
    return shown(page, "film.png")


def answer(page: Page, document: dict[str, Any], models: Any, name: str) -> None:
    script(page, models)
    model = {"name": name, "version": "1.0.0", "sha256": "a" * 64}
    page.route(PREDICTIONS, lambda route: route.fulfill(json=document | {"model": model}))


def outline(*, empty: bool) -> dict[str, Any]:
    document = segmentation(empty=empty)
    return document | {"image": prediction(IMAGE)["image"]}


@pytest.mark.parametrize(
    ("model", "document", "kind", "text"),
    [
        ("chest", prediction(IMAGE, **POSITIVE), "positive", "Pneumonia pattern: above the cut-off"),
        ("chest", prediction(IMAGE, **POSITIVE, threshold=0.9), "positive", "Pneumonia pattern: at the cut-off"),
        ("chest", prediction(IMAGE, **NEGATIVE), "negative", "No pneumonia pattern found: below the cut-off"),
        ("chest", prediction(IMAGE, **NEGATIVE, certainty=UNSURE), "uncertain", "Uncertain: no reliable label"),
        (
            *("chest", prediction(IMAGE, **NEGATIVE, certainty=CONTRADICTED)),
            *("uncertain", "Uncertain: contradicted by a brightened copy"),
        ),
        ("plain", prediction(IMAGE, **POSITIVE), "positive", "Pneumonia: above the cut-off"),
        ("slices", outline(empty=False), "positive", "Tumour marked"),
        ("slices", outline(empty=True), "negative", "No tumour marked"),
        ("photos", prediction(IMAGE, **RANKED), "ranked", "Day"),
    ],
)
def test_a_result_says_first_what_was_found(
    opened: Opener, static_gateway: Gateway, model: str, document: dict[str, Any], kind: str, text: str
) -> None:
    card = result(opened, static_gateway, document, model=model)
    expect(card.locator(".label")).to_have_text(text)
    expect(card).to_have_class(f"panel result result-{kind}")


@pytest.mark.firefox
def test_a_result_is_read_in_the_order_of_its_importance(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **POSITIVE, certainty=SURE))
    parts = card.evaluate(
        "card => [...card.querySelectorAll('h3, .label, h4')].map(element => [element.textContent,"
        " Math.round(element.getBoundingClientRect().top)])"
    )
    assert [text for text, _ in parts] == [
        "film.png",
        "Pneumonia pattern: above the cut-off",
        "How sure",
        "What this model is for",
        "How often it is right at this cut-off",
        "How common is the finding where you work?",
        "What to do next",
    ]
    tops = [top for _, top in parts]
    assert tops == sorted(tops)
    expect(card).to_contain_text("ForChildren 1 to 5 years, frontal film")
    expect(card).to_contain_text("Not forAdults, other views")
    expect(card).to_contain_text("96.0% (94.0% to 98.0%)")
    expect(card).to_contain_text("90 of 100 images without it are not reported")
    expect(card).to_contain_text("Measured on 100 held-out images (40 normal, 60 pneumonia)")
    expect(card).to_contain_text("The result alone is not a diagnosis.")


@pytest.mark.firefox
def test_the_bar_shows_cut_off_and_grey_zone_at_the_prevalence(opened: Opener, static_gateway: Gateway) -> None:
    document = prediction(IMAGE, **POSITIVE | {"prevalence": 0.1}, certainty=SURE)
    card = result(opened, static_gateway, document)
    places = card.locator(".track").evaluate(
        "track => Object.fromEntries(['fill', 'zone', 'threshold'].map(name => {"
        " const [inner, outer] = [track.querySelector(`.${name}`), track].map(item => item.getBoundingClientRect());"
        " return [name, [(inner.left - outer.left) / outer.width, (inner.right - outer.left) / outer.width]]; }))"
    )
    low, high = (odds / (1 + odds) for odds in (0.25 / 9, 1.5 / 9))  # 0.2 and 0.6 at a prevalence of 50%
    assert places["fill"] == pytest.approx([0, 0.9], abs=0.005)
    assert places["zone"] == pytest.approx([low, high], abs=0.005)
    assert sum(places["threshold"]) / 2 == pytest.approx(0.5, abs=0.005)
    expect(card).to_contain_text("Hatched: uncertain from 2.7% to 14.3%.")
    expect(card.get_by_role("img", name="uncertain from 2.7% to 14.3%")).to_be_visible()


def test_a_model_without_prediction_sets_has_no_grey_zone(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **POSITIVE), catalog(uncertain=None))
    expect(card.locator(".threshold")).to_be_visible()
    expect(card.locator(".zone")).to_have_count(0)


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "prevalence", "expected"),
    [
        (0.9, 0.9, 0.5, (0.9, 0.9)),
        (0.96, 0.9, 0.05, (0.3357, 0.9977)),
        (1, 1, 0.5, (1, 1)),
        (0, 1, 0.5, (None, 0.5)),
        (1, 0, 0.2, (0.2, None)),
    ],
)
def test_predictive_values_follow_bayes(
    opened: Opener,
    static_gateway: Gateway,
    sensitivity: float,
    specificity: float,
    prevalence: float,
    expected: tuple[float | None, float | None],
) -> None:
    page = opened(static_gateway.url, prepare=script)
    values = page.evaluate(
        "async values => (await import('/js/predictive_values.js')).predictiveValues(...values)",
        [sensitivity, specificity, prevalence],
    )
    for value, target in zip((values["positive"], values["negative"]), expected, strict=True):
        assert value == (None if target is None else pytest.approx(target, abs=1e-4))


def test_another_prevalence_shows_other_predictive_values(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **POSITIVE))
    field = card.get_by_label("Images that show pneumonia (%)")
    expect(field).to_have_value("50")
    expect(card).to_contain_text("The probability assumes that 50% of the images are positive.")
    expect(card).to_contain_text("91 of 100 reported images show pneumonia (predictive value 90.6%)")
    field.fill("5")
    expect(card.locator(".predictive")).to_contain_text("This image32.1% probability of pneumonia")
    expect(card.locator(".predictive")).to_contain_text(
        "34 of 100 reported images show pneumonia (predictive value 33.6%)"
    )
    expect(card.locator(".predictive")).to_contain_text("more than 99 of 100 do not (predictive value 99.8%)")
    field.fill("0")
    expect(card.locator(".predictive")).to_have_text("Enter a number from 0.0001 to 99.9999.")


def test_a_rare_finding_opens_with_the_share_that_was_stated(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **POSITIVE | {"prevalence": 0.00005}))
    expect(card.get_by_label("Images that show pneumonia (%)")).to_have_value("0.005")
    expect(card.locator(".predictive")).to_contain_text("This image90.0% probability of pneumonia")


def test_figures_of_another_cut_off_give_no_predictive_values(opened: Opener, static_gateway: Gateway) -> None:
    profile = {"name": "st-marys", "sha256": "b" * 64}
    models = catalog(profile=profile)
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE, profile=profile), models)
    expect(card).to_contain_text("As shipped, not at the cut-off of the site profile.")
    expect(card.locator(".predictive")).to_contain_text("This image")
    expect(card.locator(".predictive")).not_to_contain_text("predictive value")
    expect(card).not_to_contain_text("missed")


def test_a_negative_result_says_how_many_are_missed(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE))
    expect(card).to_contain_text(
        "does not exclude the finding: of the held-out images that show it, 4 of 100 were missed (95% CI 2.0% to 6.0%)."
    )


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high]}


def test_a_negative_result_never_says_that_nothing_is_missed(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog(figures={"sensitivity": figure(1, 0.963, 1), "specificity": figure(0.9, 0.85, 0.95)})
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE), models)
    expect(card).to_contain_text(
        "does not exclude the finding: by the held-out images, up to 3.7% of those that show it may be missed (95% CI)."
    )
    expect(card.locator(".predictive")).to_contain_text(
        "If not reportedNo such result was wrong on the held-out images"
    )
    expect(card.locator(".predictive")).not_to_contain_text("100 of 100")


def test_figures_without_a_spread_say_nothing_about_missed_images(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog(figures={"sensitivity": figure(1, 1, 1), "specificity": figure(0.9, 0.85, 0.95)})
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE), models)
    expect(card).to_contain_text("A result below the cut-off does not exclude the finding.")


def test_a_negative_mask_excludes_nothing_and_mentions_no_outline(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, outline(empty=True), model="slices")
    expect(card).to_contain_text("An image without a mark does not exclude the finding.")
    expect(card).not_to_contain_text("outline with")
    expect(card).not_to_contain_text("Do not measure")


def test_an_outline_is_not_for_measurements_and_notes_are_shown(opened: Opener, static_gateway: Gateway) -> None:
    document = outline(empty=False) | {"notes": ["The 3 channels are equal."]}
    card = result(opened, static_gateway, document, model="slices")
    expect(card).to_contain_text("Note: The 3 channels are equal.")
    expect(card).to_contain_text("Compare the outline with the image, slice by slice. Do not measure with it")


def test_the_mask_of_an_unlike_image_is_shown_only_with_its_output(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, outline(empty=False) | {"domain": UNUSUAL}, model="slices")
    expect(card.locator("img.picture")).to_be_visible()
    expect(card.locator(".overlay")).to_have_count(0)
    for count in (1, 0, 1):
        card.get_by_text("Model output, do not rely on it").click()
        expect(card.locator(".overlay")).to_have_count(count)


def test_a_mask_of_an_unknown_version_has_no_name_for_what_is_absent(opened: Opener, static_gateway: Gateway) -> None:
    document = outline(empty=True)
    page = opened(static_gateway.url, prepare=script)
    text = page.evaluate("async value => (await import('/js/verdict.js')).verdict(value, null).text", document)
    assert text == "Nothing marked"


@pytest.mark.parametrize(("domain", "title"), [(UNLIKE, "unlike the training images"), (UNUSUAL, "unusual image")])
def test_an_image_unlike_the_training_images_looks_different_and_has_no_label(
    opened: Opener, static_gateway: Gateway, domain: dict[str, Any], title: str
) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **POSITIVE, domain=domain))
    expect(card.locator(".no-finding")).to_have_text(f"No result: {title}")
    expect(card.locator(".label")).to_have_count(0)
    expect(card).to_have_css("border-top-style", "dashed")
    for absent in ("How sure", "How often it is right", "cut-off", "predictive value"):
        expect(card).not_to_contain_text(absent)
    expect(card.locator(".output")).to_be_hidden()
    expect(card).to_contain_text("Otherwise have it read without the model.")
    card.get_by_text("Model output, do not rely on it").click()
    expect(card.locator(".output")).to_have_text("Pneumonia pattern")
    output, name = (
        card.locator(place).evaluate("item => parseFloat(getComputedStyle(item).fontSize)")
        for place in (".output", "h3")
    )
    assert output < 1.25 * name


@pytest.mark.firefox
def test_an_uncertain_result_looks_different_and_has_no_claim(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE, certainty=UNSURE))
    expect(card.locator(".label")).to_have_text("Uncertain: no reliable label")
    expect(card.locator(".sign")).to_have_css("border-top-style", "dashed")
    expect(card).to_contain_text("Have the image read without the model.")
    expect(card).not_to_contain_text("reported as")


def test_a_result_says_what_its_second_pass_was_labelled(opened: Opener, static_gateway: Gateway) -> None:
    card = result(opened, static_gateway, prediction(IMAGE, **NEGATIVE, certainty=CONTRADICTED))
    reason = 'A brightened copy without its dark margins was labelled "pneumonia".'
    expect(card.locator(".uncertainty")).to_have_text(f"The model cannot decide about this image. {reason}")
    expect(card).to_contain_text("Below the 50% cut-off, but contradicted by a brightened copy.")
    expect(card).not_to_contain_text("no reliable label")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.004, "less than 1"), (0.335, "34"), (0.9949, "99"), (0.996, "more than 99"), (1, "100")],
)
def test_a_share_of_a_hundred_is_never_rounded_to_none_or_all(
    opened: Opener, static_gateway: Gateway, value: float, text: str
) -> None:
    page = opened(static_gateway.url, prepare=script)
    assert page.evaluate("async value => (await import('/js/evidence.js')).perHundred(value)", value) == text


@pytest.mark.parametrize(("device", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", ["positive", "negative", "uncertain", "unlike"])
def test_axe_accepts_every_kind_of_result(
    opened: Opener, static_gateway: Gateway, device: dict[str, Any], scheme: str, kind: str
) -> None:
    document = {
        "positive": prediction(IMAGE, **POSITIVE, certainty=SURE),
        "negative": prediction(IMAGE, **NEGATIVE, warning="Placeholder weights."),
        "uncertain": prediction(IMAGE, **NEGATIVE, certainty=UNSURE),
        "unlike": prediction(IMAGE, **POSITIVE, domain=UNLIKE),
    }[kind]
    card = result(opened, static_gateway, document, color_scheme=scheme, bypass_csp=True, **device)
    for summary in card.locator("summary").all():
        summary.click()
    expect(card.locator("img.picture")).to_be_visible()
    assert faults(card.page) == []
