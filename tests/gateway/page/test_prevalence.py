"""The share of positive images that a user states on the page; scripted responses, without a model server."""

import copy
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from radserve.schema.catalog import Catalog
from tests.gateway.fake_backend import CATALOG, prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload, pick
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, script
from tests.gateway.page.test_accessibility import faults
from tests.gateway.page.test_analyse import assert_no_result
from tests.gateways import Gateway

NAME = "Share of positive images (%, optional)"


def catalog() -> dict[str, Any]:
    """Return a catalog of a model that accepts a prevalence, and of one that does not."""
    accepting = copy.deepcopy(CATALOG["models"][0])
    accepting["versions"][0]["prevalence"] = 0.5
    other = copy.deepcopy(CATALOG["models"][0]) | {"name": "other"}
    return Catalog.model_validate({"models": [accepting, other]}).model_dump(mode="json")


@pytest.fixture
def queries(opened: Opener, static_gateway: Gateway) -> tuple[Page, list[str]]:
    """Return the page and the queries of its predictions, whose responses assume what they state."""
    sent: list[str] = []

    def respond(route: Route) -> None:
        query = urlsplit(route.request.url).query
        sent.append(query)
        share = float(parse_qs(query).get("prevalence", ["0.5"])[0])
        route.fulfill(json=prediction(IMAGE, prevalence=share))

    def prepare(page: Page) -> None:
        script(page, catalog())
        page.route(PREDICTIONS, respond)

    return opened(static_gateway.url, model="chest", prepare=prepare), sent


def analyse(page: Page, results: int = 1) -> None:
    choose(page, payload("film.png", IMAGE))
    expect(page.locator(".result")).to_have_count(results)


def test_a_stated_share_is_sent_and_named_by_the_result(queries: tuple[Page, list[str]]) -> None:
    page, sent = queries
    field = page.get_by_label(NAME)
    expect(field).to_have_accessible_description(re.compile("probabilities assume 50% of images"))
    field.focus()
    page.keyboard.type("0.02")
    page.keyboard.press("Tab")
    analyse(page)
    assert "prevalence=0.0002" in sent
    expect(page.locator(".result")).to_contain_text("assumes that 0.02% of the images are positive")
    expect(page.locator("#announcement")).to_contain_text("at 0.02% prevalence")
    assert faults(page) == []


def test_a_changed_share_applies_although_the_storage_is_full(queries: tuple[Page, list[str]]) -> None:
    page, sent = queries
    page.get_by_label(NAME).fill("10")
    page.get_by_label(NAME).blur()
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    page.get_by_label(NAME).fill("20")
    page.get_by_label(NAME).blur()
    pick(page, "other")
    pick(page, "chest")
    expect(page.get_by_label(NAME)).to_have_value("20")
    analyse(page)
    assert sent == ["prevalence=0.2"]


def test_an_unlike_image_names_the_share_that_its_probabilities_assume(queries: tuple[Page, list[str]]) -> None:
    page, _ = queries
    domain = {"mode": "warn", "status": "unlike", "score": 1.2, "percentile": 100, "reason": None}
    page.route(PREDICTIONS, lambda route: route.fulfill(json=prediction(IMAGE, prevalence=0.1, domain=domain)))
    page.get_by_label(NAME).fill("10")
    page.get_by_label(NAME).blur()
    analyse(page)
    expect(page.locator(".result")).to_contain_text("assumes that 10% of the images are positive")
    expect(page.locator("#announcement")).to_have_text(
        re.compile("No result: unlike the training images.$")
    )  # and no probability


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "50%"), (0.4738, "47.4%"), (0.000021, "0.0021%"), (0.999979, "99.9979%"), (1, "100%")]
)
def test_a_cut_off_is_never_rounded_to_certainty(queries: tuple[Page, list[str]], value: float, text: str) -> None:
    page, _ = queries
    assert page.evaluate('async value => (await import("/js/format.js")).cutoff(value)', value) == text
    script = 'async (pair) => (await import("/js/format.js")).compared(...pair)'
    assert page.evaluate(script, [0.4999, value]) == (["49.99%", "50.00%"] if value == 0.5 else ["50.0%", text])


def test_the_share_is_remembered_for_its_model_until_it_is_cleared(queries: tuple[Page, list[str]]) -> None:
    page, sent = queries
    page.get_by_label(NAME).fill("10")
    page.get_by_label(NAME).blur()
    pick(page, "other")
    expect(page.get_by_label(NAME)).to_be_hidden()
    page.reload()
    pick(page, "chest")
    expect(page.get_by_label(NAME)).to_have_value("10")
    analyse(page)
    page.get_by_label(NAME).fill("")
    page.get_by_label(NAME).blur()
    analyse(page, 2)
    assert sent[0] == "prevalence=0.1"
    assert sent[-1] == ""
    page.reload()
    expect(page.get_by_label(NAME)).to_have_value("")


@pytest.mark.parametrize("text", ["0", "100", "-1"])
def test_an_invalid_share_is_not_ignored(queries: tuple[Page, list[str]], text: str) -> None:
    page, sent = queries
    page.get_by_label(NAME).fill(text)
    choose(page, payload("film.png", IMAGE))
    expect(page.locator("#rejection-list")).to_contain_text("a number from 0.0001 to 99.9999 percent")
    assert_no_result(page)
    assert sent == []


def test_a_result_that_assumes_another_share_is_discarded(queries: tuple[Page, list[str]]) -> None:
    page, _ = queries
    page.route(PREDICTIONS, lambda route: route.fulfill(json=prediction(IMAGE, prevalence=0.5)))
    page.get_by_label(NAME).fill("10")
    choose(page, payload("film.png", IMAGE))
    expect(page.locator("#rejection-list")).to_contain_text("it assumes another share of positive images")
    assert_no_result(page)
