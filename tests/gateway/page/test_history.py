"""History view."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.gateway.history.results import result
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE
from tests.gateway.page.scripted import catalog, script
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateways import Gateway, gateway
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

COUNT = 30
"""More than one page."""


@pytest.fixture(scope="module")
def gateway_with_history(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with a history of `COUNT` results."""
    with gateway(server, tmp_path_factory.mktemp("history"), keep_names=True) as started:
        with httpx.Client(base_url=started.url, timeout=60) as client:
            for number in range(COUNT):
                headers = {"X-Filename": f"film-{number:02}.png"}
                client.post(f"/api/predictions/{NAME}", content=SAMPLE.read_bytes(), headers=headers).raise_for_status()
        yield started


@pytest.fixture
def history(opened: Opener, gateway_with_history: Gateway) -> Page:
    page = opened(gateway_with_history.url)
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("heading", name="History")).to_be_focused()
    return page


@pytest.mark.firefox
def test_history_pages_and_text_filter_work(history: Page) -> None:
    rows = history.locator("#history-rows tr")
    expect(rows).to_have_count(25)
    expect(rows.first).to_contain_text("film-29.png")
    expect(rows.first).to_contain_text("Pneumonia")
    expect(rows.first).to_contain_text("99.7%")
    history.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(COUNT - 25)
    expect(rows.last).to_contain_text("film-00.png")
    history.get_by_role("button", name="Newer").click()
    expect(rows).to_have_count(25)
    history.get_by_label("File name, ID or checksum").fill("film-07")
    history.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(history.locator("#filter-label option")).to_have_text(["All", "Normal", "Pneumonia pattern"])
    history.get_by_label("Result", exact=True).select_option("normal")
    history.get_by_role("button", name="Apply").click()
    expect(rows).to_have_text("No results match these filters.")
    history.get_by_role("button", name="Reset").click()
    expect(rows).to_have_count(25)


def test_rows_list_the_probability_of_the_positive_label_but_not_of_an_uncertain_result(history: Page) -> None:
    def uncertain(route: Route) -> None:
        response = route.fetch()
        document = response.json()
        document["results"][0]["certainty"] = "uncertain"
        document["results"][1]["prevalence"] = 0.001
        document["results"][2] |= {"label": "normal", "positive": False, "probability": 0.986}
        route.fulfill(response=response, json=document)

    history.route("**/api/results?**", uncertain)
    history.get_by_role("button", name="Apply").click()
    rows = history.locator("#history-rows tr")
    expect(rows.first.locator(".tag.uncertain")).to_have_text("Uncertain")
    expect(rows.first.locator(".number")).not_to_contain_text("%")
    expect(rows.nth(1).locator(".tag.marked")).to_have_text("Pneumonia pattern")
    expect(rows.nth(1).locator(".number")).to_contain_text("at 0.1% prevalence")
    expect(rows.nth(2).locator(".number")).to_contain_text("1.4%")  # of pneumonia, as in the result


def test_csv_has_filtered_results(history: Page, tmp_path: Path) -> None:
    expect(history.locator("#history-rows tr")).to_have_count(25)
    history.get_by_label("File name, ID or checksum").fill("film-1")
    history.keyboard.press("Enter")
    expect(history.locator("#history-rows tr")).to_have_count(10)
    history.get_by_label("File name, ID or checksum").fill("film-2")  # is not applied
    with history.expect_download() as download:
        history.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        assert sorted(row["filename"] for row in csv.DictReader(file)) == [f"film-1{digit}.png" for digit in range(10)]


def test_deletion_asks_and_moves_focus(history: Page, gateway_with_history: Gateway) -> None:
    row = history.locator("#history-rows tr").filter(has_text="film-20.png")
    history.once("dialog", lambda dialog: dialog.dismiss())
    row.get_by_role("button").click()
    expect(row).to_have_count(1)
    history.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button").click()
    expect(row).to_have_count(0)
    expect(history.locator("#history-rows tr").filter(has_text="film-19.png").get_by_role("button")).to_be_focused()
    document = httpx.get(f"{gateway_with_history.url}/api/results", params={"text": "film-20.png"}).json()
    assert document["results"] == []


def test_disabled_history_is_explained(page: Page) -> None:
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("This server does not keep a history of results.")).to_be_visible()
    expect(page.get_by_role("table")).to_be_hidden()
    expect(page.get_by_role("button", name="Download CSV")).to_be_hidden()


def test_a_late_failure_of_an_older_page_does_not_replace_the_newer_one(history: Page) -> None:
    rows = history.locator("#history-rows tr")
    expect(rows).to_have_count(25)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    history.route("**/api/results?*film-07*", hold)
    history.get_by_label("File name, ID or checksum").fill("film-07")
    with history.expect_request("**/api/results?*film-07*"):
        history.keyboard.press("Enter")
    history.get_by_role("button", name="Reset").click()
    expect(history.locator("#page-count")).to_have_text("Page 1")
    expect(rows).to_have_count(25)
    with history.expect_response("**/api/results?*film-07*"):
        held[0].fulfill(status=503)
    expect(history.locator("#history-problem")).to_be_hidden()
    expect(rows).to_have_count(25)


def test_unavailable_history_shows_no_old_rows(history: Page) -> None:
    expect(history.locator("#history-rows tr")).to_have_count(25)
    problem = '{"status": 503, "title": "Service unavailable", "detail": "The history does not response."}'
    results = {"status": 503, "content_type": "application/problem+json", "body": problem}
    history.route("**/api/results?**", lambda route: route.fulfill(**results))
    history.get_by_role("button", name="Apply").click()
    expect(history.locator("#history-problem")).to_contain_text("The history does not response.")
    expect(history.locator("#history-rows tr")).to_have_count(0)
    history.unroute("**/api/results?**")
    history.get_by_role("button", name="Try again").click()
    expect(history.locator("#history-rows tr")).not_to_have_count(0)
    expect(history.locator("#history-problem")).to_be_hidden()


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_accepts_filled_table(opened: Opener, gateway_with_history: Gateway, device: dict[str, Any]) -> None:
    page = opened(f"{gateway_with_history.url}/#history", bypass_csp=True, **device)
    expect(page.get_by_role("row").filter(has_text="film-29.png")).to_be_visible()
    assert faults(page) == []


def test_a_phone_folds_the_filters_and_counts_the_active_ones(opened: Opener, gateway_with_history: Gateway) -> None:
    page = opened(f"{gateway_with_history.url}/#history?text=film-1&model={NAME}", bypass_csp=True, **PHONE)
    rows = page.locator("#history-rows tr")
    expect(rows).to_have_count(10)
    expect(rows.first).to_be_in_viewport()
    toggle, field = page.get_by_role("button", name="Filters (2)"), page.get_by_label("File name, ID or checksum")
    expect(field).to_be_hidden()
    toggle.tap()
    assert faults(page) == []
    field.fill("film-07")
    page.get_by_role("button", name="Apply").tap()
    expect(rows).to_have_count(1)
    expect(field).to_be_hidden()
    expect(toggle).to_be_focused()
    toggle.tap()
    page.get_by_role("button", name="Reset").tap()
    expect(rows).to_have_count(25)
    expect(page.get_by_role("button", name="Filters", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 1440, "height": 1000})
    expect(page.get_by_role("button", name="Filters")).to_be_hidden()
    expect(field).to_be_visible()


CONNECT = "import('/js/service.js').then(({ connect }) => connect())"
SIZES = """async () => {
    const { thumbnailOf } = await import("/js/thumbnails.js");
    const sizes = [];
    const { arrayBuffer } = Blob.prototype;
    Blob.prototype.arrayBuffer = function read() { sizes.push(this.size); return arrayBuffer.call(this); };
    document.body.prepend(...[1e7, 7e7].map((size) => thumbnailOf(new File([new Uint8Array(size)], "film.mp4"))));
    while (sizes.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    await new Promise((resolve) => setTimeout(resolve, 200));
    Blob.prototype.arrayBuffer = arrayBuffer;
    return sizes;
}"""


def test_the_catalog_names_what_is_shown_and_keeps_what_is_typed(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog()
    requests: list[str] = []
    entry = json.loads(result(label="pneumonia", positive=True).model_dump_json()) | {"sha256": "a" * 64}

    def respond(route: Route) -> None:
        requests.append(route.request.url)
        is_list = "?" in route.request.url
        route.fulfill(json={"results": [entry], "next": None} if is_list else entry)

    def prepare(page: Page) -> None:
        script(page, models)
        page.route("**/api/results**", respond)

    page = opened(f"{static_gateway.url}/#history", prepare=prepare)
    rows, labels = page.locator("#history-rows tr"), page.locator("#filter-label option")
    expect(rows).to_contain_text("Pneumonia pattern")
    count = len(requests)
    page.get_by_label("File name, ID or checksum").fill("typed")
    every = labels.all_inner_texts()
    page.locator("#filter-model").select_option("chest")
    expect(labels).to_have_text(["All", "Normal", "Pneumonia pattern"])
    version = models["models"][0]["versions"][0]
    version["ready"], version["share"] = not version.get("ready"), 50
    page.evaluate(CONNECT)
    expect(page.get_by_label("File name, ID or checksum")).to_have_value("typed")
    expect(page.locator("#filter-model")).to_have_value("chest")
    assert len(requests) == count
    version["display"] = version["display"] | {"finding": "opacity"}
    page.evaluate(CONNECT)
    expect(rows).to_contain_text("Opacity")
    expect(labels).to_have_text(["All", "Normal", "Opacity"])
    expect(page.get_by_label("File name, ID or checksum")).to_have_value("typed")
    page.goto(f"{static_gateway.url}/#history?model=retired")
    expect(labels).to_have_count(len(every))

    page.route("**/api/models", lambda route: route.fulfill(status=503, json={"status": 503}))
    page.goto(f"{static_gateway.url}/#history/{entry['id']}")
    page.reload()
    expect(page.locator("#opened")).to_contain_text("retired")
    page.unroute("**/api/models")
    page.route("**/api/models", lambda route: route.fulfill(json=models))
    expect(page.locator("#opened .tag")).to_have_text("Opacity")
    assert page.evaluate(SIZES) == [140]
