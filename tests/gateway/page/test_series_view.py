"""The viewer of a series."""

import csv
import json
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from handlers import volume
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import script
from tests.gateway.page.slices import answer, measured, slice_dicom, slice_pixels, stack
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.gateways import Gateway
from tests.handlers.images import saved

pytestmark = pytest.mark.e2e


def open_series(opened: Opener, gateway: Gateway, requests: list[int], model: str = "slices", **options: Any) -> Page:
    respond = answer(requests, model)
    return opened(gateway.url, model=model, prepare=lambda page: script(page, answer=respond), **options)


def series_card(page: Page) -> Locator:
    card = page.locator(".result.series")
    expect(card).to_have_count(1)
    return card


def test_slices_become_one_viewer_with_strip_and_volume(
    opened: Opener, static_gateway: Gateway, tmp_path: Path
) -> None:
    requests: list[int] = []
    page = open_series(opened, static_gateway, requests)
    files = stack([0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80])
    choose(page, *(payload(f"{10 - index}.dcm", content) for index, content in enumerate(files)))
    card = series_card(page)
    assert requests == [11]
    expect(card.locator(".label")).to_have_text("Tumour marked on 5 of 11 slices")
    expected = volume.measure([measured(content)[1] for content in files])["ml"]
    expect(card.locator(".volume")).to_have_text(
        f"Marked volume (not validated): {expected:.2f} ml, from the areas and a slice distance of 8 mm. "
        "Do not measure with it."
    )
    expect(card.locator(".place")).to_have_text("6 of 11")  # the largest mask
    expect(card.get_by_text("5.dcm", exact=True)).to_be_visible()
    expect(card.locator("canvas.overlay")).to_be_visible()
    stage = card.locator(".stage")
    stage.hover()
    page.mouse.wheel(0, 100)
    expect(card.locator(".place")).to_have_text("8 of 11")
    stage.press("ArrowUp")
    stage.press("ArrowUp")
    expect(card.locator(".place")).to_have_text("6 of 11")
    stage.press("End")
    expect(card.locator(".slice-text")).to_have_text("No tumour marked")
    slider = card.get_by_role("slider", name="Slice")
    expect(slider).to_have_attribute("aria-valuetext", "Slice 11 of 11: No tumour marked")
    slider.press("ArrowLeft")
    expect(card.locator(".place")).to_have_text("10 of 11")
    box = card.locator(".strip").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 4.5 / 11, box["y"] + 10)
    expect(card.locator(".place")).to_have_text("5 of 11")
    expect(card.locator("img.picture")).to_have_attribute("alt", "Slice 5 of 11")
    stage.hover()
    card.get_by_label("Window", exact=True).select_option(label="More contrast")
    expect(card.locator("canvas.adjusted")).to_be_visible()
    expect(card.get_by_label("Width", exact=True)).not_to_have_value("")
    assert (
        page.evaluate(  # the window of the slice before is not drawn over the next one
            """() => {
            document.querySelector('[aria-label="Next slice"]').click();
            return document.querySelector(".adjusted").hidden && document.querySelector(".picture").alt;
        }"""
        )
        == "Slice 6 of 11"
    )
    expect(card.locator("canvas.adjusted")).to_be_visible()
    saved_files = {}
    for name in ("Slices (CSV)", "Examination (JSON)"):
        with page.expect_download() as download:
            card.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved_files[path.suffix] = path.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(saved_files[".csv"].splitlines()))
    assert [row["file"] for row in rows] == [f"{10 - index}.dcm" for index in range(11)]
    assert [float(row["position_mm"]) for row in rows] == [8.0 * index for index in range(11)]
    whole = json.loads(saved_files[".json"])
    assert whole["volume"] == {"ml": pytest.approx(expected)}
    assert (whole["slices"], whole["order"], whole["distance_mm"]) == (11, "position", 8)
    assert sum(float(row["area_mm2"]) for row in rows) * 8 / 1000 == pytest.approx(expected)
    assert [entry["area"]["mm2"] for entry in whole["predictions"]] == [float(row["area_mm2"]) for row in rows]


def swipe(page: Page, stage: Locator, left: int) -> None:
    """Move a finger to the left."""
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    touch = page.context.new_cdp_session(page)
    for step in range(11):
        point = {"x": box["x"] + 320 - step * left / 10, "y": box["y"] + 100}
        kind = "touchMove" if step else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_rejected_and_missing_slices_keep_their_place_on_a_phone(opened: Opener, static_gateway: Gateway) -> None:
    page = open_series(opened, static_gateway, [], color_scheme="dark", bypass_csp=True, **PHONE)
    files = stack([0, 8, 16, 24, 40, 48])
    files[1] = slice_dicom(8, 99, BitsStored=0)  # rejected
    other = slice_dicom(8, 1, SeriesInstanceUID="1.2.3.4.5.6")
    choose(page, *(payload(f"{index}.dcm", content) for index, content in enumerate([*files, other])))
    expect(page.locator(".result")).to_have_count(2)  # the slice of the other series is alone
    card = series_card(page)
    expect(card.locator(".series-warnings li")).to_have_text("1 slice seems to be missing: between slices 4 and 5.")
    expect(card.locator(".verdict")).to_contain_text("marked on 3 of 5 analysed slices; 1 slice could not be analysed")
    expect(card.locator(".volume")).to_have_text("No volume: 1 slice of 6 could not be analysed.")
    expect(card.locator("img.picture")).to_be_visible()
    expect(card.locator(".place")).to_have_text("5 of 6")
    swipe(page, card.locator(".stage"), 190)
    expect(card.locator(".place")).to_have_text("2 of 6")
    expect(card.locator(".slice-text")).to_have_text("Could not be analysed")
    expect(card.locator(".this-slice").get_by_text("This model cannot analyse this image.")).to_be_visible()
    expect(card.locator(".sheet")).to_be_hidden()  # not the picture of another slice
    expect(card.get_by_text("No picture: this slice could not be analysed.")).to_be_visible()
    card.locator(".stage").press("End")
    expect(card.locator(".place")).to_have_text("6 of 6")
    card.get_by_role("button", name="Slice 2: could not be analysed").click()
    expect(card.locator(".place")).to_have_text("2 of 6")
    assert faults(page) == []


def test_a_series_of_mostly_rejected_slices_says_so_first(opened: Opener, static_gateway: Gateway) -> None:
    page = open_series(opened, static_gateway, [], bypass_csp=True)
    files = stack([4.0 * index for index in range(32)])
    other, damaged = [*range(20), *range(25, 31)], 31
    for index in other:
        files[index] = slice_dicom(4.0 * index, 100 - index, BitsStored=0)
    files[damaged] = files[damaged][:-100]
    choose(page, *(payload(f"{index}.dcm", content) for index, content in enumerate(files)))
    card = series_card(page)
    expect(card.locator(".verdict")).to_have_text("!27 of 32 slices could not be analysed")
    notice = card.locator(".series-rejections")
    expect(notice.locator("p").first).to_have_text(
        "Most frequent reason (26 slices): This model cannot analyse this image. The DICOM object has BitsAllocated 16 "
        "and BitsStored 0; supported are 8, 16 and 32 allocated bits with at most as many stored."
    )
    expect(notice.locator("p").last).to_have_text(
        "The others: no tumour marked on any of 5 analysed slices. Nothing follows for the 27 slices without a result."
    )
    expect(card.locator(".volume, .label")).to_have_count(0)
    expect(card.locator(".place")).to_have_text("21 of 32")  # which has a result
    expect(card.locator(".hatch")).to_have_count(2)
    expect(card.locator(".strip-legend")).to_contain_text("Hatched: no result (slices 1–20, 26–32).")  # noqa: RUF001
    odd = card.locator(".odd-slices li")
    expect(odd).to_have_count(2)
    expect(odd.last).to_have_text(re.compile("^Slice 32: could not be analysed"))
    step = odd.first.get_by_role("button", name="Slices 1–20, 26–31: could not be analysed")  # noqa: RUF001
    card.locator(".stage").press("End")
    for place in (1, 2):
        step.click()
        expect(card.locator(".place")).to_have_text(f"{place} of 32")
    assert faults(page) == []
    advice = card.get_by_text("analyse the original file")
    expect(advice).to_be_visible()
    notice.get_by_role("button", name="Choose another kind of image").click()
    expect(page.locator("#waiting")).to_contain_text("32 files")


def test_classifier_counts_slices_of_a_zip_and_claims_nothing_else(opened: Opener, static_gateway: Gateway) -> None:
    page = open_series(opened, static_gateway, [], model="chest")
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(stack([24, 32, 40, 48, 72])):
            archive.writestr(f"head/{index}", content)
    choose(page, payload("study.zip", stream.getvalue()))
    card = series_card(page)
    expect(card.get_by_role("heading", name="study.zip/head", exact=True)).to_be_visible()
    expect(card.locator(".label")).to_have_text(re.compile(r"^\d of 5 slices above the 50% cut-off$"))
    expect(card.get_by_text("nothing follows from the count for the examination as a whole")).to_be_visible()
    expect(card.locator(".volume")).to_have_count(0)
    expect(card.locator(".place")).to_have_text("3 of 5")
    expect(card.locator(".strip .cut")).to_have_count(1)


def test_numbered_images_are_offered_as_series_without_volume_and_a_rejected_one_is_in_view(
    opened: Opener, static_gateway: Gateway
) -> None:
    requests: list[int] = []
    page = open_series(opened, static_gateway, requests, viewport={"width": 1440, "height": 600})
    files = [saved((slice_pixels(8.0 * index) / 3000 * 255).astype(np.uint8), "PNG") for index in range(11)]
    choose(page, *(payload(f"head_{index}.png", content) for index, content in enumerate(files)))
    page.get_by_role("button", name="One examination").click()
    card = series_card(page)
    assert requests == [11]
    expect(card.locator(".volume")).to_have_text("No volume in ml: these files state no slice distance.")
    expect(
        card.get_by_text("The slices are ordered by the numbers in their names: the files state no common position.")
    ).to_be_visible()
    expect(card.locator("img.picture")).to_be_visible()
    page.evaluate("scrollTo(0, 1e6)")
    assert page.evaluate("scrollY") > 300
    choose(page, *(payload(f"{index}.dcm", slice_dicom(index, index, BitsStored=0)) for index in range(3)))
    expect(page.locator("#rejection-list .rejection")).to_be_in_viewport()


def test_picture_of_another_slice_is_never_shown(opened: Opener, static_gateway: Gateway) -> None:
    """A server that is slow to draw slices shows none meanwhile; one that is rejected alone is drawn by the page."""
    respond, held = answer([]), []

    def slow(route: Route) -> None:
        if "image/png" in route.request.headers["accept"]:
            held.append(route)
        else:
            respond(route)

    page = opened(static_gateway.url, model="slices", prepare=lambda page: script(page, answer=slow))
    choose(page, *(payload(f"{index}.dcm", content) for index, content in enumerate(stack([0, 20, 40, 60]))))
    card = series_card(page)
    expect(card.get_by_text("Loading the picture")).to_be_visible()
    expect(card.locator(".sheet")).to_be_hidden()
    page.wait_for_function("document.querySelector('.series')")
    while held:
        held.pop(0).fulfill(status=503, json={"status": 503, "title": "Busy"}, content_type="application/problem+json")
    page.wait_for_timeout(500)
    expect(card.get_by_text("Loading the picture")).to_be_visible()  # it is requested again
    unlike = {"status": 422, "title": "Unlike the training images", "detail": "Not compared."}
    picture = card.get_by_role("img", name="Slice 3 of 4")
    for _ in range(100):
        while held:
            held.pop(0).fulfill(status=422, json=unlike, content_type="application/problem+json")
        if picture.is_visible():
            break
        page.wait_for_timeout(100)
    expect(picture).to_be_visible()
    expect(card.locator(".no-picture")).to_be_hidden()
    card.get_by_role("button", name="Next slice").click()
    expect(card.locator(".place")).to_have_text("4 of 4")
    expect(card.get_by_role("img", name="Slice 3 of 4")).to_have_count(0)
