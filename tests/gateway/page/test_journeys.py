"""Many files, and a series, in both browsers: against a gateway that runs its model, without a route."""

import zipfile
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect

from gateway.app import create
from gateway.settings import Settings
from tests.gateway.application import serving
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.slices import stack
from tests.handlers.images import saved
from tests.spots import figure, packed, painted

pytestmark = [pytest.mark.e2e, pytest.mark.firefox]

PLACES = [0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80]


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page and the smallest segmentation model in this process; return the URL."""
    folder = tmp_path_factory.mktemp("spots")
    packed(folder / "store", folder)
    settings = Settings.read(archive=folder / "store" / "spots-1.0.0.mar", history="none")
    with serving(create(settings)) as address:
        yield f"http://{address}"


@pytest.fixture
def page(opened: Opener, spots: str) -> Page:
    return opened(spots, model="spots")


def film(name: str, *, marked: bool) -> FilePayload:
    return payload(name, saved(painted(figure(60, 80), bright=235 if marked else 90), "PNG"))


def test_many_files_become_a_table(page: Page) -> None:
    packed_films = BytesIO()
    with zipfile.ZipFile(packed_films, "w") as archive:
        for name, marked in (("ward/five.png", True), ("ward/six.png", False)):
            archive.writestr(name, film(name, marked=marked)["buffer"])
    films = [film(f"{name}.png", marked=name in ("one", "three")) for name in ("one", "two", "three", "four")]
    others = [payload("study.zip", packed_films.getvalue()), payload("report.pdf", b"%PDF-1.7 report")]
    choose(page, *films, *others)
    table = page.locator("#batch")
    expect(table.get_by_text("7 of 7 done.")).to_be_visible()
    expect(table.locator(".batch-row")).to_have_count(7)
    expect(table.locator(".batch-text", has_text="PDFs cannot be read.")).to_have_count(1)
    names = table.locator(".batch-open")
    table.get_by_role("columnheader", name="File").get_by_role("button").click()
    order = ["four.png", "one.png", "report.pdf", "five.png", "six.png", "three.png", "two.png"]
    expect(names).to_have_text(order)  # of their paths, which begin with study.zip
    expect(table.locator(".batch-row canvas")).to_have_count(6)

    table.get_by_role("button", name="Positive 3").click()
    expect(names).to_have_text(["one.png", "five.png", "three.png"])
    names.first.press("ArrowDown")
    expect(names.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    result = table.locator(".result")
    expect(result.locator(".label")).to_have_text("Spot marked")
    expect(result.locator("canvas.overlay")).to_be_visible()
    table.get_by_role("button", name="Next").click()
    expect(table.get_by_role("heading", name="three.png")).to_be_focused()
    page.keyboard.press("Escape")
    expect(names.nth(2)).to_be_focused()
    table.get_by_role("button", name="Negative 3").click()
    expect(names).to_have_text(["four.png", "six.png", "two.png"])


def test_slices_become_one_viewer_with_strip_and_volume(page: Page, spots: str) -> None:
    slices = stack(PLACES)
    files = [("files", (f"{index}.dcm", content)) for index, content in enumerate(slices)]
    response = httpx.post(f"{spots}/api/predictions/spots", files=files, timeout=60).json()
    pixels = [prediction["area"]["pixels"] for prediction in response["predictions"]]
    largest = int(np.argmax(pixels))
    choose(page, *(payload(f"{99 - index}.dcm", content) for index, content in enumerate(slices)))
    card = page.locator(".result.series")
    expect(card.locator(".label")).to_have_text(f"Spot marked on {np.count_nonzero(pixels)} of 11 slices")
    expect(card.locator(".volume")).to_contain_text(f"{response['volume']['ml']:.2f} ml, from the areas")
    place = card.locator(".place")
    expect(place).to_have_text(f"{largest + 1} of 11")
    expect(card.get_by_text(f"{99 - largest}.dcm", exact=True)).to_be_visible()
    expect(card.locator("canvas.overlay")).to_be_visible()

    stage = card.locator(".stage")
    stage.hover()
    page.mouse.wheel(0, 50)
    expect(place).to_have_text(f"{largest + 2} of 11")
    stage.press("End")
    expect(place).to_have_text("11 of 11")
    expect(card.locator(".slice-text")).to_have_text("No spot marked")
    card.get_by_role("slider", name="Slice").press("ArrowLeft")
    expect(place).to_have_text("10 of 11")
    strip = card.locator(".strip").bounding_box()
    assert strip
    page.mouse.click(strip["x"] + strip["width"] * (largest + 0.5) / 11, strip["y"] + 10)
    expect(place).to_have_text(f"{largest + 1} of 11")
    picture = card.get_by_role("img", name=f"Slice {largest + 1} of 11")
    expect(picture).to_be_visible()
    stage.press("i")
    expect(card.locator("canvas.adjusted")).to_be_visible()
    expect(card.locator("canvas.overlay")).to_be_visible()
