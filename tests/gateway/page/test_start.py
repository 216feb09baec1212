"""Start of the page: what the images show is chosen first."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import CHEST, IMAGE, PHOTOGRAPH, PREDICTIONS, SLICE, catalog, script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_analyse import assert_no_result, shown
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

FILM = payload("film.png", IMAGE)


def start(opener: Opener, gateway: Gateway, models: Any = None, **options: Any) -> tuple[Page, list[str]]:
    """Open the page with scripted models and no choice; return the predictions that it requests, too."""
    sent: list[list[str]] = []
    page = opener(gateway.url, prepare=lambda page: sent.append(script(page, models)), **({"model": None} | options))
    return page, sent[0]


def card(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def test_no_model_is_chosen_before_the_user_does(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = start(opened, static_gateway)
    expect(page.get_by_role("heading", name="What do your images show?")).to_be_visible()
    groups = page.locator("#chooser-groups h3")
    expect(groups).to_have_text(["Brain", "Chest", "Photographs", "Other images"])
    chest = card(page, CHEST)
    expect(chest).to_have_accessible_description(re.compile("Looks for a pneumonia pattern"))
    expect(chest).to_contain_text("Children 1 to 5 years, frontal film")
    expect(chest.locator(".identifier")).to_have_text("chest")
    expect(chest.locator("img")).to_be_visible()
    expect(page.get_by_text("Choose files")).to_be_hidden()
    expect(card(page, "Pneumonia")).to_be_visible()  # the title of a model without a description


def test_a_file_without_a_choice_waits_for_it(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = start(opened, static_gateway)
    choose(page, FILM, payload("second.png", IMAGE))
    expect(page.locator("#waiting")).to_contain_text(
        "2 files are waiting: film.png, second.png. Choose what they show."
    )
    expect(page.get_by_role("heading", name="What do your images show?")).to_be_focused()
    assert_no_result(page)
    assert sent == []
    card(page, CHEST).click()
    expect(page.locator(".result")).to_have_count(2)
    expect(page.locator("#waiting")).to_be_hidden()
    assert {path.partition("?")[0] for path in sent} == {"chest"}


def test_waiting_files_can_be_discarded(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = start(opened, static_gateway)
    choose(page, FILM)
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("#waiting")).to_be_hidden()
    card(page, CHEST).click()
    expect(page.get_by_text("No images analysed yet.")).to_be_visible()
    assert sent == []


@pytest.mark.firefox
def test_the_choice_is_remembered_and_named(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = start(opened, static_gateway)
    card(page, CHEST).click()
    expect(page.locator("#choice")).to_contain_text(CHEST)
    expect(page.locator("#choice-id")).to_have_text("chest 1.0.0")
    expect(page.get_by_role("heading", name="Images to analyse")).to_be_focused()
    page.reload()
    expect(page.locator("#choice-name")).to_have_text(CHEST)
    expect(page.locator("#chooser")).to_be_hidden()
    choose(page, FILM)
    expect(shown(page, "film.png")).to_contain_text(f"Read as {CHEST}")


def test_downloads_and_history_name_the_choice(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = start(opened, static_gateway, model="chest")
    choose(page, FILM)
    with page.expect_download() as download:
        shown(page, "film.png").get_by_role("button", name="Result (JSON)").click()
    assert download.value.suggested_filename == "film.chest.json"
    entry: dict[str, Any] = {"id": "1" * 32, "time": "2026-03-01T00:00:00Z", "verb": "predictions", "model": "chest"}
    entry |= {"version": "1.0.0", "label": "normal", "probability": 0.9, "positive": False, "client": "ward"}
    entry |= {"filename": "film.png", "image_sha256": "a" * 64, "domain": None}
    page.route(re.compile("/api/results"), lambda route: route.fulfill(json={"results": [entry], "next": None}))
    page.get_by_role("link", name="History").click()
    expect(page.locator("#history-rows td.model")).to_have_text(f"{CHEST}chest 1.0.0")
    expect(page.locator("#filter-model option")).to_have_text(["All", CHEST, PHOTOGRAPH, "Pneumonia", SLICE])


def test_another_kind_of_image_can_be_chosen(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = start(opened, static_gateway, model="chest")
    page.get_by_role("button", name="Change").click()
    expect(card(page, CHEST)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name=f"Keep {CHEST}").click()
    expect(page.get_by_role("button", name="Change")).to_be_focused()
    page.get_by_role("button", name="Change").click()
    card(page, "Pneumonia").click()
    choose(page, FILM)
    expect(shown(page, "film.png")).to_contain_text("Read as Pneumonia")
    assert sent[0] == "plain"


def test_a_choice_that_is_not_served_any_more_is_asked_for_again(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = start(opened, static_gateway, model="retired")
    expect(card(page, CHEST)).to_be_visible()
    expect(page.locator("#choice")).to_be_hidden()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_files_can_be_chosen_on_the_first_screen(
    opened: Opener, static_gateway: Gateway, size: tuple[int, int], scheme: str
) -> None:
    viewport = {"width": size[0], "height": size[1]}
    page, _ = start(opened, static_gateway, viewport=viewport, color_scheme=scheme, model="chest")
    expect(page.get_by_text("Choose files")).to_be_in_viewport(ratio=1)
    expect(page.locator("#drop")).to_be_in_viewport(ratio=1)


def test_a_version_of_several_can_be_chosen(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog()
    (chest,) = (model for model in models["models"] if model["name"] == "chest")
    chest["versions"] = [chest["versions"][0] | {"share": 90}, chest["versions"][0] | {"version": "1.1.0", "share": 10}]
    page, _ = start(opened, static_gateway, models, model="chest")
    expect(page.locator("#version")).to_have_value("")
    expect(page.locator("#version")).to_contain_text("Server's choice: 1.0.0 90%, 1.1.0 10%")
    page.locator("#version").select_option("1.1.0")
    expect(page.locator("#choice-id")).to_have_text("chest 1.1.0")
    document = prediction(IMAGE, model={"name": "chest", "version": "1.1.0", "sha256": "a" * 64})
    page.route(PREDICTIONS, lambda route: route.fulfill(json=document))
    page.reload()
    expect(page.locator("#version")).to_have_value("1.1.0")
    with page.expect_request(PREDICTIONS) as request:
        choose(page, FILM)
    assert request.value.url.endswith("/api/predictions/chest/1.1.0")
    expect(shown(page, "film.png")).to_contain_text("No pneumonia pattern found")


@pytest.mark.firefox
def test_a_card_is_chosen_by_keyboard(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = start(opened, static_gateway)
    card(page, SLICE).focus()
    page.keyboard.press("Tab")
    expect(card(page, CHEST)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#choice-name")).to_have_text(CHEST)


@pytest.mark.parametrize("content", ["{", "null", '"chest"', json.dumps({"name": 1})])
def test_a_damaged_choice_is_ignored(opened: Opener, static_gateway: Gateway, content: str) -> None:
    page, _ = start(opened, static_gateway)
    page.evaluate("content => localStorage.setItem('radserve.model', content)", content)
    page.reload()
    expect(card(page, CHEST)).to_be_visible()


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_accepts_the_cards(opened: Opener, static_gateway: Gateway, device: dict[str, Any], scheme: str) -> None:
    models = catalog(warning="Placeholder weights: results are meaningless.")
    page, _ = start(opened, static_gateway, models, color_scheme=scheme, bypass_csp=True, **device)
    choose(page, FILM)
    expect(card(page, CHEST)).to_contain_text("Placeholder weights")
    assert faults(page) == []
    card(page, CHEST).click()
    expect(page.locator("#choice-warning")).to_be_visible()
    assert faults(page) == []
