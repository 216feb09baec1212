"""Images that were sent together are opened again as one series."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.stored import stored
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.handlers.images import saved

pytestmark = pytest.mark.e2e

COUNT = 30
"""More than one page of the history."""


def slices(count: int) -> list[bytes]:
    return [saved(np.full((40, 30 + index), 8 * index, np.uint8), "PNG") for index in range(count)]


def test_a_series_opens_in_its_order_with_strip_and_volume(opened: Opener, tmp_path: Path) -> None:
    with stored(tmp_path, images=tmp_path / "images") as gateway:
        gateway.send_together(*slices(COUNT))
        page = opened(f"{gateway.url}/#history", model="slices", bypass_csp=True)
        row = page.locator(".group-row")
        expect(row).to_contain_text("25 of this request on this page")
        row.get_by_role("link", name=re.compile(f"Open the {COUNT} slices of .* as one series")).click()
        expect(page.get_by_role("heading", name=re.compile("Stored series of"))).to_be_focused()
        card = page.locator("#opened .series")
        expect(card.locator(".volume")).to_have_text(
            "Marked volume (not validated): 12.5 ml, as measured when the slices were sent. Do not measure with it."
        )
        expect(card.locator(".strip .bar.marked")).to_have_count(COUNT)
        expect(card.locator(".place")).to_have_text("26 of 30")  # the largest mask, first of several
        expect(card.locator("canvas.overlay")).to_be_visible()
        card.locator(".stage").press("Home")
        expect(card.get_by_role("img", name=f"Slice 1 of {COUNT}")).to_be_visible()
        assert page.evaluate("document.querySelector('#opened .picture').naturalWidth") == 30
        expect(card.locator("canvas.overlay")).to_be_visible()
        expect(card.get_by_text("This server keeps neither their positions nor")).to_be_visible()
        assert faults(page) == []
        page.go_back()
        expect(row.get_by_role("link").first).to_be_focused()


def test_a_series_without_kept_images_shows_masks_and_keeps_places(opened: Opener, tmp_path: Path) -> None:
    images = slices(4)
    with stored(tmp_path, keep_names=False) as gateway:
        first, _, _, last = gateway.send_together(images[0], b"no image", *images[2:])
        page = opened(f"{gateway.url}/#history/{last['id']}", model="slices", bypass_csp=True, **PHONE)
        page.get_by_role("link", name="Open all 4 that were sent together").click()
        card = page.locator("#opened .series")
        expect(card.locator(".volume")).to_have_text(
            "No volume: 1 slice of 4 is missing, because it could not be analysed."
        )
        expect(card.get_by_text("The image was not kept.")).to_be_visible()
        expect(page.get_by_text("The mask was not kept")).to_have_count(0)
        expect(card.locator("canvas.overlay")).to_be_visible()
        card.get_by_role("button", name="Slice 2: could not be analysed").click()
        expect(card.locator(".no-picture")).to_have_text("This image was rejected, or its result is deleted.")
        expect(card.locator("canvas.overlay")).to_be_hidden()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name="All results").click()
        expect(page.get_by_text("This server keeps no file names")).to_be_visible()
        page.goto(f"{gateway.url}/#history/series/{first['id']}")
        expect(page.get_by_text("This result does not exist, or you may not view it.")).to_be_visible()
