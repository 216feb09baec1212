"""Many files of one drop become a table."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Download, FilePayload, Locator, Page, Route, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.predictions import UNLIKE, UNSURE, document
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, READY, script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_states import problem
from tests.gateways import Gateway
from tests.handlers.images import dicom, film

pytestmark = pytest.mark.e2e
SCOPE = problem(422, "Out of scope", "age (age of the patient) is out of scope")
CHANGES: dict[str, dict[str, Any]] = {"positive": {}, "negative": {}, "unsure": UNSURE, "unlike": UNLIKE}
FAIL_TO_SAVE = """async () => {
    const { Problem } = await import("/js/api.js");
    URL.createObjectURL = () => { throw new Problem("The disk is full."); };
}"""
COUNT_URLS = """() => {
    window.urls = new Set();
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (blob) => {
        const url = createObjectURL(blob);
        window.urls.add(url);
        return url;
    };
    URL.revokeObjectURL = (url) => {
        window.urls.delete(url);
        revokeObjectURL(url);
    };
}"""


def name_of(route: Route) -> str:
    """Return the name of the file in a request."""
    body = (route.request.post_data_buffer or b"").decode("latin-1")
    match = re.search(r'filename="([^"]*)"', body)
    assert match
    return match[1]


def answer(route: Route) -> None:
    """Respond as the name of a file says: "positive 0.93.png"."""
    if "image/png" in route.request.headers["accept"]:
        route.fulfill(content_type="image/png", body=IMAGE)
        return
    name = name_of(route)
    kind, _, share = name.rpartition("/")[2].removesuffix(".png").partition(" ")
    if kind in CHANGES:
        route.fulfill(json=document(float(share)) | CHANGES[kind])
    else:
        route.fulfill(**SCOPE)


def films(*names: str) -> list[FilePayload]:
    return [payload(f"{name}.png", IMAGE) for name in names]


def opened_table(
    opened: Opener, gateway: Gateway, respond: Callable[[Route], None] = answer, **options: Any
) -> tuple[Page, Locator]:
    """Open the page with scripted responses; return it and the region of the table."""
    page = opened(gateway.url, model="chest", prepare=lambda page: script(page, answer=respond), **options)
    return page, page.locator("#batch")


def downloaded(download: Download, folder: Path) -> bytes:
    path = folder / download.suggested_filename
    download.save_as(path)
    return path.read_bytes()


REASON = "This model was not made for this image or patient. age (age of the patient) is out of scope"
MIXED = ("positive 0.93", "negative 0.2", "unsure 0.51", "unlike 0.99", "scope", "positive 0.7", "negative 0.1")
MIXED_ROWS = [
    ("positive 0.93.png", "Pneumonia pattern: above the cut-off", "93.0%", "50%", "Analysed"),
    ("negative 0.2.png", "No pneumonia pattern found: below the cut-off", "20.0%", "50%", "Analysed"),
    ("unsure 0.51.png", "Uncertain: no reliable label", "\N{EN DASH}", "\N{EN DASH}", "Uncertain"),
    ("unlike 0.99.png", "No result: unlike the training images", "\N{EN DASH}", "\N{EN DASH}", "Unusual"),
    ("scope.png", REASON, "\N{EN DASH}", "\N{EN DASH}", "Rejected"),
    ("positive 0.7.png", "Pneumonia pattern: above the cut-off", "70.0%", "50%", "Analysed"),
    ("negative 0.1.png", "No pneumonia pattern found: below the cut-off", "10.0%", "50%", "Analysed"),
]


def shown_rows(table: Locator) -> list[tuple[str, ...]]:
    columns = ("open", "text", "probability", "threshold", "status")
    return list(zip(*(table.locator(f".batch-row .batch-{name}").all_inner_texts() for name in columns), strict=True))


@pytest.mark.parametrize(
    "device", [DESK | {"color_scheme": "light"}, PHONE | {"color_scheme": "dark"}], ids=["desk", "phone"]
)
def test_table_shows_filters_sorts_and_opens_files(
    opened: Opener, static_gateway: Gateway, device: dict[str, Any]
) -> None:
    page, table = opened_table(opened, static_gateway, bypass_csp=True, **device)
    choose(page, *films(*MIXED))
    expect(table.get_by_text("7 of 7 done.")).to_be_visible()
    expect(table.get_by_role("heading", name="7 files")).to_be_in_viewport()
    expect(table.locator(".batch-row")).to_have_count(7)
    expect(page.locator(".result, .rejection")).to_have_count(0)
    for text in table.locator(".batch-is-uncertain, .batch-is-doubtful").all_inner_texts():
        assert re.search(r"pneumonia|normal|\d%", text, re.IGNORECASE) is None
    expect(table.locator("canvas")).to_have_count(7)
    assert page.evaluate("document.documentElement.scrollWidth") == device["viewport"]["width"]
    assert faults(page) == []
    if device["viewport"]["width"] == DESK["viewport"]["width"]:
        assert shown_rows(table) == MIXED_ROWS
        sorted_column(table, "Probability", [0, 5, 1, 6, 2, 3, 4], "descending")
        sorted_column(table, "Probability", [6, 1, 5, 0, 2, 3, 4], "ascending")
        sorted_column(table, "Probability", [0, 1, 2, 3, 4, 5, 6], "none")
        sorted_column(table, "File", [6, 1, 5, 0, 4, 3, 2], "ascending")
        sorted_column(table, "Result", [0, 5, 2, 3, 1, 6, 4], "ascending")
    table.get_by_role("button", name="Positive 2").click()
    expect(table.locator(".batch-open")).to_have_text(["positive 0.93.png", "positive 0.7.png"])
    table.get_by_label("Filter by file or result").fill("0.9")
    expect(table.locator(".batch-open")).to_have_text(["positive 0.93.png"])
    table.get_by_role("button", name="Not analysed 1").click()
    expect(table.get_by_text("No files match.")).to_be_visible()
    table.get_by_label("Filter by file or result").fill("")
    table.locator(".batch-row").click()
    expect(table.locator(".batch-detail").get_by_text("age (age of the patient) is out of scope")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    table.get_by_role("button", name="All 7").click()
    table.locator(".batch-open").filter(has_text="positive 0.93").click()
    expect(table.locator(".result .label")).to_have_text("Pneumonia pattern: above the cut-off")
    expect(table.locator(".result img.picture")).to_be_visible()
    expect(table.locator(".batch-scroll")).to_be_hidden()
    table.get_by_role("button", name="Back to the table").click()
    expect(page.locator(".result")).to_have_count(0)
    expect(table.locator(".batch-open").filter(has_text="positive 0.93")).to_be_focused()
    table.get_by_role("button", name="Clear table").click()
    expect(table).to_be_hidden()
    expect(page.get_by_text("No images analysed yet.")).to_be_visible()


def sorted_column(table: Locator, name: str, order: Sequence[int], direction: str) -> None:
    """Click the header of a column and compare the order of the rows."""
    header = table.get_by_role("columnheader", name=name)
    header.get_by_role("button").click()
    expect(table.locator(".batch-open")).to_have_text([MIXED_ROWS[index][0] for index in order])
    expect(header).to_have_attribute("aria-sort", direction)


def test_details_step_through_the_table_and_keys_move_in_it(opened: Opener, static_gateway: Gateway) -> None:
    page, table = opened_table(opened, static_gateway)
    page.evaluate(COUNT_URLS)
    names = [f"negative 0.{number:03}" for number in range(200)]
    choose(page, *films(*names))
    expect(table.get_by_text("200 of 200 done.")).to_be_visible()
    assert table.locator(".batch-row").count() < 40
    assert table.locator("canvas").count() < 40
    table.locator(".batch-open").first.focus()
    for key, index in (("ArrowDown", 1), ("End", 199), ("ArrowUp", 198), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        focused = table.locator(".batch-open").filter(has_text=f"{names[index]}.png")
        expect(focused).to_be_focused()
        expect(focused).to_be_in_viewport()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    for button, index in (("Next", 2), ("Next", 3), ("Previous", 2)):
        table.get_by_role("button", name=button).click()
        expect(table.get_by_role("heading", name=f"{names[index]}.png")).to_be_focused()
        expect(table.get_by_text(f"{index + 1} of 200", exact=True)).to_be_visible()
        expect(table.locator(".result")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(table.locator(".batch-open").filter(has_text=f"{names[2]}.png")).to_be_focused()
    page.wait_for_function("window.urls.size === 0")


def test_downloads_have_a_line_for_each_file_and_run_no_formula(
    opened: Opener, static_gateway: Gateway, tmp_path: Path
) -> None:
    page, table = opened_table(opened, static_gateway)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in MIXED:
            archive.writestr(f"../{name}.png", IMAGE)
    choose(page, payload("=1+1, a.zip", packed.getvalue()), payload("broken.zip", b"PK\3\4"))
    expect(table.get_by_text("8 of 8 done.")).to_be_visible()
    with page.expect_download() as download:
        table.get_by_role("button", name="Results (CSV)").click()
    content = downloaded(download.value, tmp_path)
    assert b"\r\n" in content
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row["file"] for row in rows] == [*(f"'=1+1, a.zip/../{name}.png" for name in MIXED), "broken.zip"]
    claimed = ("status", "label", "probability", "positive_label", "positive_probability", "cut_off")
    columns = [tuple(row[name] for name in claimed) for row in rows]
    assert columns == [
        ("analysed", "pneumonia", "0.93", "pneumonia", "0.93", "0.5"),
        ("analysed", "normal", "0.8", "pneumonia", "0.2", "0.5"),
        ("uncertain", "", "", "", "", ""),
        ("unusual", "", "", "", "", ""),
        ("rejected", "", "", "", "", ""),
        ("analysed", "pneumonia", "0.7", "pneumonia", "0.7", "0.5"),
        ("analysed", "normal", "0.9", "pneumonia", "0.1", "0.5"),
        ("rejected", "", "", "", "", ""),
    ]
    assert all(row["detail"].endswith("read without the model.") for row in rows[2:4])
    assert [row["reason"] for row in rows][2:] == [
        "",
        "It may show another body part, or be turned, cropped, edited, or a photo of a screen. Use the original image.",
        "This model was not made for this image or patient.",
        "",
        "",
        "This zip file is damaged or incomplete. Export it again.",
    ]
    with page.expect_download() as download:
        table.get_by_role("button", name="Results (ZIP)").click()
    assert re.fullmatch(r"radserve-chest-1\.0\.0-\d{4}-\d\d-\d\d\.zip", download.value.suggested_filename)
    with zipfile.ZipFile(io.BytesIO(downloaded(download.value, tmp_path))) as archive:
        assert archive.testzip() is None
        assert archive.read("results.csv") == content
        assert b"Not a medical device" in archive.read("README.txt")
        names = [name for name in archive.namelist() if name.startswith("predictions/")]
        assert names == [f"predictions/=1+1, a.zip/_/{name}.png.json" for name in MIXED if name != "scope"]
        assert [row["prediction_file"].lstrip("'") for row in rows if row["prediction_file"]] == names
        assert json.loads(archive.read(names[0]))["probabilities"]["pneumonia"] == 0.93
    page.evaluate(FAIL_TO_SAVE)
    table.get_by_role("button", name="Results (ZIP)").click()
    expect(page.locator("#rejections")).to_contain_text("The disk is full.")
    expect(page.locator("#alert")).to_have_text("Results (ZIP): The disk is full.")


def test_a_run_is_cancelled_and_continued(opened: Opener, static_gateway: Gateway) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        if name_of(route).startswith("positive"):
            answer(route)
        else:
            held.append(route)

    page, table = opened_table(opened, static_gateway, hold)
    choose(page, *films("positive 0.9", *(f"negative 0.0{number}" for number in range(1, 8))))
    expect(table.get_by_text("1 of 8 done.")).to_be_visible()
    table.get_by_role("button", name="Cancel").click()
    expect(table.get_by_text("8 of 8 done.")).to_be_visible()
    expect(table.get_by_role("button", name="Not analysed 7")).to_be_visible()
    expect(table.locator(".batch-status", has_text="Cancelled")).to_have_count(7)
    expect(page.locator("#announcement")).to_contain_text("Positive: 1, Not analysed: 7")
    page.unroute(PREDICTIONS)
    page.route(PREDICTIONS, answer)
    table.get_by_role("button", name="Analyse the other 7 files").click()
    expect(table.get_by_role("button", name="Negative 7")).to_be_visible()
    expect(table.get_by_role("button", name="Not analysed")).to_have_count(0)


def test_a_run_waits_for_the_rate_limit_and_for_the_service(opened: Opener, static_gateway: Gateway) -> None:
    limited = iter([True, True])
    gone = problem(503, "Unavailable", "The workers ended.")

    def respond(route: Route) -> None:
        if next(limited, False):
            route.fulfill(**problem(429, "Too many requests", **{"Retry-After": "1"}))
        elif not is_up:
            route.fulfill(**gone)
        else:
            answer(route)

    is_up = True
    page, table = opened_table(opened, static_gateway, respond)
    choose(page, *films(*(f"negative 0.0{number}" for number in range(1, 6))))
    expect(table.get_by_text("The server limits requests; continuing shortly.")).to_be_visible()
    expect(table.get_by_role("button", name="Negative 5")).to_be_visible()
    is_up = False
    page.route("**/ready", lambda route: route.fulfill(status=503, json={"state": "waiting", "detail": ""}))
    choose(page, *films(*(f"positive 0.{number}" for number in range(51, 71))))
    expect(table.get_by_text("The others are analysed when the service is ready.")).to_be_visible()
    is_up = True
    page.route("**/ready", lambda route: route.fulfill(json=READY))
    again = table.get_by_role("button", name=re.compile(r"Try the [123] failed files? again"))
    again.click()
    expect(table.get_by_role("button", name="Positive 20")).to_be_visible()
    expect(table.get_by_role("button", name="Not analysed")).to_have_count(0)


def test_a_forbidden_request_stops_the_run(opened: Opener, static_gateway: Gateway) -> None:
    sent: list[str] = []

    def respond(route: Route) -> None:
        sent.append(name_of(route))
        route.fulfill(**problem(403, "Forbidden", "The key may not predict."))

    page, table = opened_table(opened, static_gateway, respond)
    choose(page, *films(*(f"negative 0.{number:02}" for number in range(1, 40))))
    expect(table.get_by_role("button", name="Not analysed 39")).to_be_visible()
    assert len(sent) <= 3


def test_a_repaired_image_gets_its_own_row(opened: Opener, static_gateway: Gateway) -> None:
    def respond(route: Route) -> None:
        if "image/png" in route.request.headers["accept"] or name_of(route) != "odd.png":
            answer(route)
        elif "repair=invert" in route.request.url:
            route.fulfill(json=document(0.9) | {"repair": "invert"})
        else:
            route.fulfill(json=document(0.9) | {"domain": UNLIKE["domain"] | {"reason": "inverted"}})

    page, table = opened_table(opened, static_gateway, respond)
    choose(page, *films("odd", "negative 0.1", "negative 0.2", "negative 0.3"))
    table.get_by_role("button", name="Unusual 1").click()
    expect(table.locator(".batch-open")).to_have_text(["odd.png"])
    table.locator(".batch-open").click()
    table.get_by_role("button", name="Invert and analyse again").click()
    expect(table.locator(".result .label")).to_have_text("Pneumonia pattern: above the cut-off")
    table.get_by_role("button", name="Back to the table").click()
    table.get_by_role("button", name="All 5").click()
    expect(table.locator(".batch-open").nth(1)).to_have_text("odd.png (inverted)")


def test_three_files_stay_cards_and_waiting_files_become_a_table(opened: Opener, static_gateway: Gateway) -> None:
    page, table = opened_table(opened, static_gateway)
    choose(page, *films("positive 0.9", "negative 0.2", "unlike 0.9"))
    expect(page.locator("#result-list .result")).to_have_count(3)
    expect(table).to_be_hidden()
    page.get_by_role("button", name="Change").click()
    choose(page, *films(*MIXED))
    expect(page.locator("#waiting")).to_contain_text("7 files are waiting")
    page.get_by_role("button", name="Keep").click()
    expect(table.get_by_text("7 of 7 done.")).to_be_visible()
    expect(page.locator("#result-list .result")).to_have_count(3)


def test_a_row_says_in_one_sentence_why_a_file_cannot_be_analysed(opened: Opener, static_gateway: Gateway) -> None:
    unsupported = "Unsupported file type."
    refusal = problem(415, "Unsupported media type", f"{unsupported} Send another.")
    page, table = opened_table(opened, static_gateway, lambda route: route.fulfill(**refusal))
    choose(page, payload("frames.dcm", dicom(film(), NumberOfFrames=23)), *films("one", "two", "three"))
    expect(table.locator(".batch-row .batch-text")).to_have_text(
        ["This file holds 23 images: drop it alone.", *[f"{unsupported} Export as DICOM, PNG or JPEG."] * 3]
    )
    expect(table.get_by_role("button", name="again")).to_have_count(0)
