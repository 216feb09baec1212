"""History: the results of one request, such as the slices of a series, are one row."""

import json
import re
from collections.abc import Collection
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, Route, expect

from tests.gateway.history.results import result
from tests.gateway.page.conftest import Opener
from tests.gateway.page.scripted import SLICE, catalog, script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

SUMMARIES = """async groups => {
    const { groupEntries, summarize } = await import("/js/history_groups.js");
    const texts = (entries) => groupEntries(entries).map((group) => summarize(group));
    return groups.map((entries) => texts(entries).map(({ text, notes }) => [text, ...notes].join("; ")));
}"""


def entry(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result(**({"group_id": "series"} | changes)).model_dump_json())
    return document


def slices(count: int, positive: int) -> list[dict[str, Any]]:
    outline = {"model": "slices", "probability": None, "group_size": count}
    marked, empty = {"label": "tumour", "positive": True}, {"label": "background", "positive": False}
    return [  # the one that was sent last first
        entry(id=f"{count - place:032}", **outline, **(marked if place < positive else empty)) for place in range(count)
    ]


def prepare(page: Page, entries: list[dict[str, Any]], kept: Collection[str] = ()) -> None:
    """Answer as the API: `positive=true` lists the matching results; those that are `kept` cannot be deleted."""

    def respond(route: Route) -> None:
        if route.request.method != "DELETE":
            matching = [item["id"] for item in entries if item["positive"]] if "positive" in route.request.url else None
            route.fulfill(json={"results": entries, "next": None, "matching": matching})
        elif any(identity in route.request.url for identity in kept):
            problem = {"status": 403, "title": "Not allowed", "detail": "It belongs to another client."}
            route.fulfill(status=403, json=problem)
        else:
            entries[:] = [item for item in entries if item["id"] not in route.request.url]
            route.fulfill(status=204)

    script(page)
    page.route("**/api/results**", respond)


@pytest.mark.parametrize("device", [DESK, PHONE | {"color_scheme": "dark"}], ids=["desk", "phone"])
def test_the_slices_of_a_series_are_one_row_that_opens(
    opened: Opener, static_gateway: Gateway, device: dict[str, Any]
) -> None:
    entries = [entry(group_id=None), *slices(20, 12), entry(seconds=9, group_id=None)]
    page = opened(
        f"{static_gateway.url}/#history",
        model="chest",
        prepare=lambda page: prepare(page, entries),
        bypass_csp=True,
        **device,
    )
    rows = page.locator("#history-rows tr >> visible=true")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("Marked on 12 of 20")
    expect(rows.nth(1)).to_contain_text("20 slices sent together")
    assert faults(page) == []
    page.get_by_role("button", name="Show all 20").click()
    expect(rows).to_have_count(23)
    expect(rows.nth(2)).to_contain_text("1 of 20")
    expect(page.get_by_role("button", name="Hide all 20")).to_be_focused()
    assert faults(page) == []
    page.on("dialog", lambda dialog: dialog.accept())
    rows.nth(2).get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(22)
    expect(rows.nth(1)).to_contain_text("Marked on 12 of 19")
    expect(rows.nth(2).get_by_role("link")).not_to_be_focused()
    expect(rows.nth(2).get_by_role("button", name="Delete")).to_be_focused()
    expect(page.locator("#announcement")).to_have_text("Result deleted.")
    page.goto(f"{static_gateway.url}/#history?positive=true")
    head = page.locator(".group-row")
    expect(head).to_contain_text("12 of 19 match the filters")
    expect(head).to_contain_text("Marked on 12 of 19")
    expect(head).to_contain_text("20 slices sent together")
    page.get_by_role("button", name="Show all 19").click()
    expect(page.locator(".slice-row", has_text="Matches the filters")).to_have_count(12)
    assert faults(page) == []


def test_all_results_of_a_request_are_deleted_and_what_remains_is_reported(
    opened: Opener, static_gateway: Gateway
) -> None:
    entries = [entry(group_id=None), *slices(20, 12), entry(seconds=9, group_id=None)]
    kept = {entries[3]["id"], entries[7]["id"]}
    questions: list[str] = []

    def answer(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.accept() if len(questions) > 1 else dialog.dismiss()

    page = opened(f"{static_gateway.url}/#history", model="chest", prepare=lambda page: prepare(page, entries, kept))
    page.on("dialog", answer)
    head = page.locator(".group-row")
    for _ in range(2):
        head.get_by_role("button", name="Delete the 20 results of").click()
    assert questions == ["Delete all 20 results that were sent together? This can't be undone."] * 2
    problem = page.locator(".rejection")
    expect(problem).to_contain_text("2 results of 20 could not be deleted")
    expect(problem).to_contain_text("It belongs to another client.")
    expect(head).to_contain_text("No result: 18 of 20 rejected or deleted")
    expect(head.get_by_role("button", name="Show all 2")).to_be_focused()
    assert len(entries) == 4
    kept.clear()
    head.get_by_role("button", name="Delete the 2 results of").click()
    expect(page.locator("#announcement")).to_have_text("2 results deleted.")
    expect(head).to_have_count(0)
    rows = page.locator("#history-rows tr")
    expect(rows).to_have_count(2)
    expect(rows.last.get_by_role("button", name="Delete")).to_be_focused()


def test_a_page_of_the_history_counts_requests(opened: Opener, static_gateway: Gateway) -> None:
    entries = [
        item | {"group_id": "g", "group_index": index + 1, "group_size": 5}
        for index, item in enumerate(slices(3, 1)[::-1])
    ]
    queries: list[str] = []

    def respond(route: Route) -> None:
        queries.append(route.request.url.partition("?")[2])
        is_deleted = "" in queries and "cursor=" in queries[-1]
        results = [] if is_deleted else [*entries[::-1], entry()]
        route.fulfill(json={"results": results, "next": "cursor"})

    def prepare(page: Page) -> None:
        script(page)
        page.route("**/api/models", lambda route: route.abort())
        page.route("**/api/results**", respond)

    page = opened(f"{static_gateway.url}/#history", model="chest", prepare=prepare)
    expect(page.locator("#announcement")).to_have_text("2 entries on page 1.")
    assert queries == ["count=requests"]
    row = page.locator(".group-row")
    expect(row).to_contain_text("5 slices sent together")
    expect(row).to_contain_text("2 of 5 rejected or deleted")
    page.get_by_role("button", name="Show all 3").click()
    expect(page.locator(".slice-row .file").first).to_contain_text("2 of 5: ")
    page.get_by_role("button", name="Older").click()
    expect(page.locator("#page-count")).to_have_text("Page 2")
    assert queries[1:] == ["count=requests&cursor=cursor"]

    page.route("**/api/models", lambda route: route.fulfill(json=catalog()))  # as after a restart of the service
    expect(row).not_to_contain_text(SLICE)
    page.evaluate("import('/js/service.js').then(({ connect }) => connect())")
    expect(row).to_contain_text(SLICE)

    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=re.compile("Delete the result")).last.click()  # the last one of the page
    expect(page.locator("#page-count")).to_have_text("Page 1")
    expect(page.locator("#announcement")).to_have_text("Result deleted.")
    expect(row).to_be_visible()


def test_only_results_of_one_request_are_grouped_and_doubtful_ones_are_no_findings(
    opened: Opener, static_gateway: Gateway
) -> None:
    page = opened(static_gateway.url, model="chest", prepare=script)
    unlike, unsure = {"domain": "unlike", "positive": True}, {"certainty": "uncertain", "positive": True}
    unusual = {"domain": "unusual", "probability": None}
    groups = [
        [entry(positive=True), entry(**unlike), entry(**unsure), entry()],
        [entry(**unusual), entry(**unusual)],
        [entry(**unlike), entry(**unlike), entry(**unsure)],
        [entry(**unlike), entry(), entry()],
        [entry(positive=None), entry(positive=None)],
        [entry(group_id=None), entry(group_id=None)],
        [entry(), entry(group_id="other")],
        [entry(group_size=4, positive=True), entry(), entry()],
        [entry(group_size=4), entry()],
    ]
    assert page.evaluate(SUMMARIES, groups) == [
        ["Above the cut-off on 1 of 2; 1 unlike the training images, not counted; 1 uncertain, not counted"],
        ["No result: all slices are unusual"],
        ["No result: all images are unlike the training images or uncertain"],
        ["No result: 1 image above the cut-off, but unlike the training images"],
        ["2 results"],
        *([["Above the cut-off on 0 of 1"] * 2] * 2),
        ["Above the cut-off on 1 of 3; 1 of 4 rejected or deleted"],
        ["No result: 2 of 4 rejected or deleted"],
    ]
