"""Images that were sent together are opened again as one series."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import payload
from tests.gateway.page.stored import stored
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.handlers.images import saved

pytestmark = pytest.mark.e2e

COUNT = 30
"""More than one page of the history."""


def slices(count: int) -> list[bytes]:
    return [saved(np.full((40, 30 + index), 8 * index, np.uint8), "PNG") for index in range(count)]


def add(page: Page, *images: bytes) -> None:
    page.set_input_files("#join-file", [payload(f"slice {index}.png", image) for index, image in enumerate(images)])


def test_a_series_opens_in_its_order_with_strip_and_volume(opened: Opener, tmp_path: Path) -> None:
    with stored(tmp_path, images=tmp_path / "images") as gateway:
        gateway.send_together(*slices(COUNT))
        page = opened(f"{gateway.url}/#history", model="slices", bypass_csp=True)
        page.route("**/overlay", lambda route: route.fulfill(status=503, json={"status": 503}), times=1)
        row = page.locator(".group-row")
        expect(row).to_contain_text(f"{COUNT} slices sent together")
        row.get_by_role("link", name=re.compile(f"Open the {COUNT} slices of .* as one series")).click()
        expect(page.get_by_role("heading", name=re.compile("Stored series of"))).to_be_focused()
        card = page.locator("#opened .series")
        expect(card.locator(".volume")).to_have_text(
            "Marked volume (not validated): 12.5 ml, as measured when the slices were sent. Do not measure with it."
        )
        expect(card.locator(".strip .bar.marked")).to_have_count(COUNT)
        expect(card.locator(".place")).to_have_text("26 of 30")  # the largest mask, first of several
        page.get_by_role("button", name=re.compile("Dismiss .*mask of slice 26")).click()
        card.locator(".stage").press("Home")
        expect(card.get_by_role("img", name=f"Slice 1 of {COUNT}")).to_be_visible()
        assert page.evaluate("document.querySelector('#opened .picture').naturalWidth") == 30
        expect(card.locator("canvas.overlay")).to_be_visible()
        card.get_by_role("slider").fill("26")
        expect(card.locator("canvas.overlay")).to_be_visible()  # requested again
        expect(card.get_by_text("This server keeps neither their positions nor")).to_be_visible()
        assert faults(page) == []
        page.go_back()
        expect(row.get_by_role("link").first).to_be_focused()


def test_a_series_without_kept_images_shows_masks_and_keeps_places(opened: Opener, tmp_path: Path) -> None:
    images = slices(4)
    images[2] = saved(np.zeros((40, 32), np.uint8), "TIFF")  # which browsers cannot show
    with stored(tmp_path, keep_names=False) as gateway:
        first, _, _, last = gateway.send_together(images[0], b"no image", *images[2:])
        page = opened(f"{gateway.url}/#history/{last['id']}", model="slices", bypass_csp=True, **PHONE)
        page.get_by_role("link", name="Open all 4 that were sent together").click()
        card = page.locator("#opened .series")
        expect(card.locator(".volume")).to_have_text("No volume: 1 of 4 slices have no mask.")
        expect(card.locator(".label")).to_have_text(
            "Tumour marked on 3 of 3 stored slices; 1 slice rejected or deleted"
        )
        expect(card.get_by_text("The image was not kept.")).to_be_visible()
        note = page.locator(".join")
        expect(note).to_contain_text("3 images were not kept.")
        expect(note).to_contain_text("Drop the same files again to open them in the viewer.")
        expect(page.get_by_text("The mask was not kept")).to_have_count(0)
        expect(card.locator("canvas.overlay")).to_be_visible()
        card.get_by_role("button", name="Slice 2: rejected or deleted").click()
        expect(card.locator(".no-picture")).to_have_text("This image was rejected, or its result is deleted.")
        expect(card.locator("canvas.overlay")).to_be_hidden()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        add(page, saved(np.zeros((40, 5), np.uint8), "PNG"))
        expect(note).to_contain_text("slice 0.png does not match these results (different checksum).")
        add(page, *images[:3])
        expect(note).to_contain_text("Shown: 2. Still missing: 1.")
        card.locator(".stage").press("Home")
        expect(card.get_by_role("img", name="Slice 1 of 4")).to_be_visible()
        card.get_by_role("slider").fill("3")
        expect(card.locator(".no-picture")).to_have_text(
            "This browser cannot show this file. It was not sent to the server."
        )
        expect(card.locator("canvas.overlay")).to_be_visible()
        add(page, images[3], b"other")
        expect(note).to_have_text("slice 1.png does not match these results (different checksum). Analyse slice 1.png")
        card.locator(".stage").press("End")
        assert card.locator("img.picture").evaluate("image => image.naturalWidth") == 33
        page.get_by_role("button", name="All results").click()
        page.get_by_role("button", name="Filters").click()
        expect(page.get_by_text("This server does not store the file names")).to_be_visible()
        page.goto(f"{gateway.url}/#history/series/{first['id']}")
        expect(page.get_by_text("This result does not exist, or you may not view it.")).to_be_visible()


PATIENTLY = """async () => {
    const { patiently } = await import("/js/parallel.js");
    const counted = async (signal, status) => {
        let count = 0;
        const load = () => { count += 1; throw { status, retryAfter: 0 }; };
        await patiently(load, signal).catch(() => null);
        return count;
    };
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (resolve) => setTimeout(resolve);
    const counts = [await counted(new AbortController().signal, 429), await counted(new AbortController().signal, 500)];
    globalThis.setTimeout = setTimeout;
    return [...counts, await counted(AbortSignal.abort(), 429)];
}"""


def test_requests_are_repeated_a_few_times_and_never_after_the_view_is_left(modules: Page) -> None:
    assert modules.evaluate(PATIENTLY) == [10, 1, 0]


def test_a_deleted_slice_keeps_the_volume_and_images_of_a_classifier_are_no_series(
    opened: Opener, tmp_path: Path
) -> None:
    with stored(tmp_path) as gateway:
        first, second, *_ = gateway.send_together(*slices(4))
        httpx.delete(f"{gateway.url}/api/results/{second['id']}").raise_for_status()
        page = opened(f"{gateway.url}/#history/{first['id']}", model="slices")
        page.get_by_role("link", name="Open all 4 that were sent together").click()
        card = page.locator("#opened .series")
        expect(card.locator(".volume")).to_contain_text(
            "12.5 ml, as measured when the slices were sent. It includes 1 slice whose result is deleted."
        )
        expect(card.locator(".label")).to_have_text("Tumour marked on 3 of 3 stored slices; 1 slice deleted")
        card.get_by_role("button", name="Slice 2: deleted").click()
        expect(card.locator(".no-picture")).to_have_text("The result of this slice is deleted.")
        httpx.delete(f"{gateway.url}/api/results/{first['id']}").raise_for_status()
        page.reload()
        expect(card.locator(".verdict")).to_contain_text("2 of 4 slices deleted")
        expect(card.get_by_text("Compare the outline with the image, slice by slice.")).to_be_visible()
        gateway.send_together(*slices(3), model="chest")
        page.get_by_role("button", name="All results").click()
        page.get_by_role("link", name=re.compile("Open the 3 images of (?!.*series)")).click()
        expect(page.get_by_role("heading", name=re.compile("Stored images of"))).to_be_focused()
        expect(card.locator(".label")).to_contain_text("of 3 images above")
        expect(card.get_by_role("button", name="Next image")).to_be_visible()
        assert re.findall("(?i)slice|series|examination", card.inner_text()) == []
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#opened").get_by_role("button", name="Delete all").click()
        expect(page.locator("#announcement")).to_have_text("3 results deleted.")
        expect(page.locator(".group-row")).to_have_count(1)
