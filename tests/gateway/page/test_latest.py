"""What the last drop gave is in view: earlier rejections are one line, tables are dense."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.predictions import document
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, script
from tests.gateway.page.test_accessibility import PHONE, faults
from tests.gateway.page.test_table import answer, films, opened_table
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 800}}
LONG = "study of the second of march/very long name of a film of a child 0000001 positive"


def reject(page: Page, *names: str) -> None:
    before = page.locator(".rejection").count()
    choose(page, *films(*names))
    expect(page.locator(".rejection")).to_have_count(before + len(names))


@pytest.mark.parametrize("device", [DESK, PHONE | {"color_scheme": "dark"}], ids=["desk", "phone"])
def test_a_result_is_in_view_after_rejections_which_become_one_line(
    opened: Opener, static_gateway: Gateway, device: dict[str, Any], tmp_path: Path
) -> None:
    page = opened(
        static_gateway.url, model="chest", prepare=lambda page: script(page, answer=answer), bypass_csp=True, **device
    )
    reject(page, "scope 1", "scope 2")
    page.locator("#rejection-list").get_by_role("button", name="Dismiss scope 1.png").focus()
    choose(page, *films("positive 0.93"))
    earlier = page.locator("#earlier")
    expect(page.locator(".result .verdict")).to_be_in_viewport()
    if device is not DESK:
        expect(page.locator("#about")).not_to_be_in_viewport()
        assert page.locator(".result").evaluate("item => item.getBoundingClientRect().top") < 200
    expect(page.locator("#announcement")).to_contain_text("positive 0.93.png: ")
    expect(earlier.get_by_text("2 earlier problems")).to_be_focused()
    expect(page.locator(".rejection >> visible=true")).to_have_count(0)
    assert faults(page) == []

    reject(page, "scope 3")
    expect(page.locator("#rejection-list .rejection")).to_be_in_viewport()
    expect(page.locator("#rejection-list .batch-thumb canvas")).to_be_visible()
    expect(page.locator("#alert")).to_contain_text("scope 3.png could not be analysed.")
    earlier.get_by_text("2 earlier problems").click()
    earlier.get_by_role("button", name="Dismiss scope 1.png").click()
    expect(earlier.locator(".rejection button").first).to_be_focused()
    expect(earlier.get_by_text("1 earlier problem")).to_be_visible()
    assert faults(page) == []

    choose(page, *films(*(f"negative 0.{number}" for number in range(1, 6))))
    expect(page.get_by_role("heading", name="5 files")).to_be_in_viewport()
    expect(earlier.get_by_text("2 earlier problems")).to_be_visible()
    choose(page, *films("positive 0.7"))
    newest = page.locator(".result").first
    expect(newest.get_by_role("heading", name="positive 0.7.png")).to_be_in_viewport()
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Dismiss all").click()
    expect(page.locator("#rejections")).to_be_hidden()
    expect(page.locator("#results-heading")).to_be_focused()

    again = tmp_path / "scope 4.png"
    again.write_bytes(IMAGE)
    page.set_input_files("#pick", again)
    expect(page.locator("#rejections .rejection")).to_have_count(1)
    page.route(PREDICTIONS, lambda route: route.fulfill(json=document(0.93)))
    page.set_input_files("#pick", again)
    expect(page.get_by_role("heading", name="scope 4.png")).to_be_in_viewport()
    expect(page.locator("#rejections")).to_be_hidden()  # the problem is mended


DROPS = """async () => {
    const { expectOutcome, showOutcome } = await import("/js/latest.js");
    const shown = [];
    const element = (name) => document.body.appendChild(Object.assign(document.createElement("p"), {
        getBoundingClientRect: () => ({ top: -1 }), scrollIntoView: () => shown.push(name),
    }));
    const [older, newer] = [expectOutcome(), expectOutcome()];
    for (const [name, drop] of [["older", older], ["retried", null], ["newer", newer], ["second", newer]])
        showOutcome(element(name), drop);
    await new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); });
    return shown;
}"""
FILES = """async () => {
    const { forget, recall, remember } = await import("/js/recent_files.js");
    const names = ["first", "second", "deleted", "moved"];
    const files = names.map((name) => Object.defineProperty(new File([name], name), "size", { value: 80e6 }));
    files[3].arrayBuffer = () => Promise.reject(new Error());
    for (const file of files) remember(file.name, file);
    forget("deleted");
    return Promise.all(names.map(async (name) => (await recall(name, ""))?.text() ?? null));
}"""


def test_the_page_shows_the_last_drop_and_recalls_readable_files(opened: Opener, static_gateway: Gateway) -> None:
    page = opened(static_gateway.url, ready=False)
    assert page.evaluate(DROPS) == ["newer"]
    assert page.evaluate(FILES) == [None, "second", None, None]  # at most 256 MB


def test_a_table_shows_twelve_aligned_rows_whose_names_hide_no_result(opened: Opener, static_gateway: Gateway) -> None:
    page, table = opened_table(opened, static_gateway, viewport={"width": 1920, "height": 950})
    names = [f"positive 0.{number}" for number in range(51, 90)]
    choose(page, *films(*names), payload(f"{LONG.rpartition('/')[2]} 0.93.png", IMAGE))
    expect(table.get_by_text("40 of 40 done.")).to_be_visible()
    expect(table.locator("canvas").first).to_be_visible()
    visible = table.locator(".batch-row").evaluate_all(IN_VIEW)
    assert visible >= 12
    table.locator(".batch-scroll").evaluate("element => element.scrollTo(0, 1e6)")
    long = table.locator(".batch-row").filter(has_text="very long name")
    expect(long).to_be_visible()
    assert re.fullmatch("very long name.*\N{HORIZONTAL ELLIPSIS}ive 0.93.png", long.locator(".batch-name").inner_text())
    lefts = table.locator(".batch-scroll tr").evaluate_all(LEFTS)
    assert len(lefts) == 1
    (heights,) = {tuple(item) for item in table.locator(".batch-row").evaluate_all(HEIGHTS)}
    assert heights == (44, 40)


IN_VIEW = """rows => rows.filter((row) => {
    const { top, bottom } = row.getBoundingClientRect();
    const { top: start, bottom: end } = row.closest(".batch-scroll").getBoundingClientRect();
    const foot = document.querySelector(".caution").getBoundingClientRect().top;
    return top >= start + 44 && bottom <= Math.min(end, foot) + 1;
}).length"""
LEFTS = """rows => [...new Set(rows.map((row) =>
    [...row.children].map((cell) => Math.round(cell.getBoundingClientRect().left)).join(" ")))]"""
HEIGHTS = """rows => rows.map((row) =>
    [row.offsetHeight, row.querySelector(".batch-thumb").offsetHeight])"""
