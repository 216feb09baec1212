"""The page on a phone, and for readers who enlarge text."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import CHEST, IMAGE, PREDICTIONS, script
from tests.gateway.page.test_accessibility import PHONE
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_result import RANKED
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

SMALL = """() => [...document.querySelectorAll("a, button, input, select, summary, label.button")].flatMap(element => {
    if (!element.checkVisibility() || element.matches(".visually-hidden, .skip, .prose a")) return [];
    const { width, height } = element.getBoundingClientRect();
    return width >= 44 && height >= 44 ? [] : [`${element.outerHTML.slice(0, 80)}: ${width} x ${height}`];
})"""
FIXED = """() => [...document.querySelectorAll("body *")].filter(element => element.checkVisibility()
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim() !== ""))
    .map(element => [element, parseFloat(getComputedStyle(element).fontSize)])"""


def phone(opener: Opener, gateway: Gateway, model: str | None = "chest", **options: Any) -> Page:
    return opener(gateway.url, prepare=script, model=model, **(PHONE | options))


def test_everything_to_touch_is_large_enough(opened: Opener, static_gateway: Gateway) -> None:
    page = phone(opened, static_gateway, None)
    expect(page.get_by_role("button", name=CHEST)).to_be_visible()
    assert page.evaluate(SMALL) == []
    page.get_by_role("button", name=CHEST).tap()
    choose(page, payload("film.png", IMAGE), payload("report.pdf", b"%PDF-1.7"))
    card = shown(page, "film.png")
    card.get_by_text("Details", exact=True).tap()
    expect(page.locator(".rejection")).to_be_visible()
    assert page.evaluate(SMALL) == []
    page.get_by_role("link", name="History").tap()
    assert page.evaluate(SMALL) == []


def test_text_follows_the_size_that_the_reader_chose(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, prepare=script, model="chest", viewport={"width": 390, "height": 844})
    choose(page, payload("film.png", IMAGE))
    shown(page, "film.png")
    ratios = page.evaluate(
        f"() => {{ const sizes = ({FIXED})(); document.documentElement.style.fontSize = '32px';"
        " return sizes.map(([element, size]) => parseFloat(getComputedStyle(element).fontSize) / size); }"
    )
    assert ratios == pytest.approx([2] * len(ratios))
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_header_and_banner_leave_nine_tenths_of_the_height(
    opened: Opener, static_gateway: Gateway, size: tuple[int, int]
) -> None:
    page = opened(static_gateway.url, prepare=script, viewport={"width": size[0], "height": size[1]})
    heights = [
        page.locator(place).evaluate("item => item.getBoundingClientRect().height") for place in (".top", ".caution")
    ]
    assert sum(heights) < size[1] / 10
    expect(page.get_by_text("For research only; do not use it for patient care.")).to_be_in_viewport(ratio=1)


@pytest.mark.firefox
def test_a_radiology_model_offers_no_camera_and_says_why(opened: Opener, static_gateway: Gateway) -> None:
    page = phone(opened, static_gateway)
    expect(page.get_by_text("Choose files")).to_be_visible()
    expect(page.get_by_text("Take a photo")).to_be_hidden()
    expect(page.get_by_text("photographs of films or screens are not validated")).to_be_visible()


def test_a_model_of_photographs_offers_the_camera(opened: Opener, static_gateway: Gateway) -> None:
    page = phone(opened, static_gateway, "photos")
    expect(page.get_by_text("Take a photo")).to_be_visible()
    expect(page.locator("#camera")).to_have_attribute("capture", "environment")
    expect(page.get_by_text("not validated")).to_be_hidden()


def test_the_reduced_picture_stands_beside_the_photograph_on_the_first_screen(
    opened: Opener, static_gateway: Gateway
) -> None:
    page = phone(opened, static_gateway, "photos")
    document = prediction(IMAGE, **RANKED) | {"model": {"name": "photos", "version": "1.0.0", "sha256": "a" * 64}}
    page.route(PREDICTIONS, lambda route: route.fulfill(json=document))
    choose(page, payload("street.png", IMAGE))
    card = shown(page, "street.png")
    small = card.get_by_role("img", name="The image in 32 \N{MULTIPLICATION SIGN} 32 pixels")
    expect(small).to_be_in_viewport(ratio=1)
    expect(card.locator("img.picture")).to_be_in_viewport(ratio=1)
    expect(card.locator(".label")).to_be_in_viewport(ratio=1)
    photograph, reduced = card.locator("img.picture").bounding_box(), small.bounding_box()
    assert photograph
    assert reduced
    assert photograph["x"] + photograph["width"] <= reduced["x"]
