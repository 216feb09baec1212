"""A server that restarts with another archive or site profile while the page is open."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, catalog, script
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_result import NEGATIVE, POSITIVE, SURE
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

PROFILE = {"name": "st-marys", "sha256": "b" * 64}
REBUILT = "c" * 64


def analysed(opener: Opener, gateway: Gateway, document: dict[str, Any], models: Any = None) -> Locator:
    """Open the page, restart the server with another catalog, and analyse an image."""
    page: Page = opener(gateway.url, prepare=script, model="chest")
    if models is not None:
        page.route("**/api/models", lambda route: route.fulfill(json=models))
    page.route(PREDICTIONS, lambda route: route.fulfill(json=document))
    choose(page, payload("film.png", IMAGE))
    return shown(page, "film.png")


def rebuilt(**changes: Any) -> dict[str, Any]:
    model = {"name": "chest", "version": "1.0.0", "sha256": REBUILT}
    return prediction(IMAGE, **POSITIVE, certainty=SURE, model=model, **changes)


def test_figures_of_the_current_archive_are_shown(opened: Opener, static_gateway: Gateway) -> None:
    figures = {"sensitivity": {"value": 0.7, "ci95": [0.6, 0.8]}, "specificity": {"value": 0.8, "ci95": [0.7, 0.9]}}
    card = analysed(opened, static_gateway, rebuilt(), catalog(sha256=REBUILT, figures=figures))
    expect(card).to_contain_text("70.0% (60.0% to 80.0%)")
    expect(card).not_to_contain_text("96.0%")


def test_figures_of_another_archive_are_not_shown(opened: Opener, static_gateway: Gateway) -> None:
    card = analysed(opened, static_gateway, rebuilt())
    expect(card.locator(".label")).to_have_text("Pneumonia pattern: above the cut-off")
    expect(card).to_contain_text("The probability assumes that 50% of the images are positive.")
    for absent in ("How often it is right", "96", "predictive value", "Hatched", "held-out"):
        expect(card).not_to_contain_text(absent)
    expect(card.locator(".zone")).to_have_count(0)


def test_a_site_profile_that_came_with_a_restart_is_named(opened: Opener, static_gateway: Gateway) -> None:
    document = prediction(IMAGE, **NEGATIVE, profile=PROFILE)
    card = analysed(opened, static_gateway, document, catalog(profile=PROFILE))
    expect(card).to_contain_text("As shipped, not at the cut-off of the site profile.")
    expect(card).not_to_contain_text("were missed")
    expect(card.page.locator("#model-about")).to_contain_text("Site profilest-marys")


def test_figures_as_shipped_are_not_shown_for_an_unknown_site_profile(opened: Opener, static_gateway: Gateway) -> None:
    card = analysed(
        opened,
        static_gateway,
        prediction(IMAGE, **NEGATIVE, certainty=SURE | {"prediction_set": ["normal"]}, profile=PROFILE),
    )
    expect(card.locator(".threshold")).to_be_visible()
    for absent in ("How often it is right", "were missed", "predictive value", "Hatched"):
        expect(card).not_to_contain_text(absent)


def test_an_archive_without_a_checksum_has_the_figures_of_its_version(opened: Opener, static_gateway: Gateway) -> None:
    model = {"name": "chest", "version": "1.0.0", "sha256": None}
    card = analysed(opened, static_gateway, prediction(IMAGE, **POSITIVE, model=model))
    expect(card).to_contain_text("96.0% (94.0% to 98.0%)")
