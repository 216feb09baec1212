"""Stored results that are opened again, and compared."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from playwright.sync_api import Page, Route, expect

from gateway.history import Result
from gateway.history.sqlite import SqliteHistory
from tests.gateway.history.results import result
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, payload
from tests.gateway.page.scripted import IMAGE, catalog
from tests.gateway.page.stored import Stored, stored
from tests.gateway.page.test_accessibility import DESK, PHONE, faults
from tests.gateway.page.test_restart import PROFILE
from tests.handlers.images import saved

pytestmark = pytest.mark.e2e

FILM = SAMPLE.read_bytes()
SHA256 = hashlib.sha256(FILM).hexdigest()
NOT_KEPT = "The image was not kept."
UNSENT = 'async sha256 => (await import("/js/recent_files.js")).isUnsent(sha256)'


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Serve a history with images."""
    folder = tmp_path_factory.mktemp("kept")
    with stored(folder, images=folder / "images") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def unkept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Serve a history without images."""
    with stored(tmp_path_factory.mktemp("unkept")) as gateway:
        yield gateway


def opened_result(opened: Opener, gateway: Stored, *ids: str, **options: Any) -> Page:
    page = opened(f"{gateway.url}/#history/{'/'.join(ids)}", model="chest", **options)
    expect(page.locator(".opened-body > .small[role=status]")).to_have_count(0)
    return page


def is_unsent(page: Page) -> Any:
    return page.evaluate(UNSENT, SHA256)


def test_a_row_opens_the_whole_result_and_back_returns_to_the_filtered_list(opened: Opener, kept: Stored) -> None:
    for number in range(30):
        kept.send(FILM, "chest/1.0.0", name=f"list-{number:02}.png")
    kept.send(FILM, "chest/2.0.0", name="list-00.png")
    explained = kept.send(FILM, "chest/2.0.0", "explanations")
    page = opened(f"{kept.url}/#history", model="chest", viewport={"width": 1200, "height": 500})
    page.get_by_label("File name, ID or checksum").fill("list-")
    page.get_by_label("Cut-off").select_option("true")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name="Older").click()
    rows = page.locator("#history-rows tr")
    expect(rows).to_have_count(6)
    assert re.search(r"#history\?positive=true&text=list-&cursor=[\w-]+", page.url)
    page.reload()
    expect(rows).to_have_count(6)
    expect(page.get_by_label("Cut-off")).to_have_value("true")

    page.get_by_role("button", name="Newer").click()
    expect(rows).to_have_count(25)
    row = rows.filter(has_text="list-10.png")
    row.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 300
    page.evaluate(
        'async sha256 => (await import("/js/recent_files.js")).remember('
        'sha256, new File(["changed"], "film.png"), { isSent: false })',
        SHA256,
    )
    assert is_unsent(page)
    row.locator(".time").click()
    expect(page.get_by_role("heading", name="Stored result of")).to_be_focused()  # with the image that the server kept
    expect(page.locator("#opened .picture")).to_be_visible()
    assert not is_unsent(page)
    page.go_back()
    expect(rows).to_have_count(25)
    expect(row.get_by_role("link")).to_be_focused()
    assert page.evaluate("scrollY") == scrolled
    expect(page.get_by_label("File name, ID or checksum")).to_have_value("list-")

    page.goto(f"{kept.url}/#history?version=2.0.0&text=list-")
    expect(rows).to_have_count(1)  # the heat map added none
    expect(rows).to_contain_text("with heat map")
    rows.get_by_role("link").click()
    page.wait_for_url(f"**/#history/{explained}")
    for _ in range(2):  # the address can be reloaded
        card = page.locator("#opened .result")
        expect(card.locator(".verdict")).to_contain_text("Pneumonia pattern: above the cut-off")
        expect(card.locator("canvas.overlay")).to_be_visible()
        expect(card.get_by_role("button", name="Hide heat map")).to_be_enabled()
        expect(card).to_contain_text("Age 4")
        page.reload()
    page.get_by_role("button", name="All results").click()
    expect(page.get_by_role("heading", name="History")).to_be_focused()


def test_a_deleted_result_returns_to_the_list_and_its_address_says_so(opened: Opener, kept: Stored) -> None:
    identity = kept.send(FILM, "chest/1.0.0")
    page = opened_result(opened, kept, identity)
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#opened").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="History")).to_be_focused()
    page.goto(f"{kept.url}/#history/{identity}")
    expect(page.get_by_text("This result does not exist, or you may not view it.")).to_be_visible()
    page.get_by_role("link", name="Analyse").click()
    expect(page.locator("#opened")).to_be_hidden()


def test_an_image_that_is_not_kept_is_joined_if_it_is_added_again(opened: Opener, unkept: Stored) -> None:
    tiff = saved(Pillow.open(SAMPLE), "TIFF")
    outline = opened_result(opened, unkept, unkept.send(tiff, "slices/1.0.0"))
    mask, reason = outline.locator("#opened canvas.overlay"), "This browser cannot show this file. It was not sent"
    expect(mask).to_be_visible()  # the mask is kept
    outline.set_input_files("#join-file", [payload("film.tif", tiff)])
    expect(outline.locator(".join")).to_contain_text(reason)
    outline.get_by_role("button", name="All results").click()
    outline.go_back()
    expect(outline.locator("#rejections")).to_contain_text(reason)
    expect(mask).to_be_visible()
    page = opened_result(opened, unkept, unkept.send(FILM, "chest/1.0.0"))
    expect(page.get_by_text(NOT_KEPT)).to_be_visible()
    card = page.locator("#opened .result")
    heat = card.get_by_role("button", name="Show heat map")
    again = page.get_by_role("button", name="Analyse and compare")
    expect(card.get_by_text("No picture: the server did not keep this image.")).to_be_visible()
    expect(card.locator(".viewer >> visible=true")).to_have_count(0)  # an empty one looks like a dark image
    expect(heat).to_be_hidden()
    expect(again).to_be_disabled()
    page.set_input_files("#join-file", [payload("other.png", IMAGE)])
    differs = "other.png does not match this result (different checksum)."
    expect(page.locator(".join")).to_contain_text(differs)
    page.set_input_files("#pick", [payload("film copy.png", FILM), payload("other.png", IMAGE)])
    expect(page.locator(".join")).to_have_text(f"{differs} Analyse other.png")
    expect(page.get_by_text(NOT_KEPT)).to_have_count(0)
    expect(card.locator("img.picture")).to_be_visible()
    expect(page).to_have_url(re.compile("#history/"))
    expect(again).to_be_enabled()
    sends = card.get_by_text("Showing it sends the image to the server.")
    expect(sends).to_be_visible()
    assert is_unsent(page)
    heat.click()
    expect(card.locator("canvas.overlay")).to_be_visible()
    expect(sends).to_be_hidden()
    assert not is_unsent(page)
    page.reload()
    expect(card.get_by_role("button", name="Hide heat map")).to_be_visible()  # kept with its prediction
    page.set_input_files("#join-file", [payload("other.png", IMAGE)])
    page.get_by_role("button", name="Analyse other.png").click()
    expect(page.locator("#result-list .result")).to_contain_text("other.png")
    page.go_back()
    page.set_input_files("#join-file", [payload("film copy.png", FILM)])
    expect(card.locator("img.picture")).to_be_visible()
    again.click()
    expect(page.get_by_role("heading", name="Comparison")).to_be_focused()
    assert not is_unsent(page)


def test_a_result_of_a_retired_version_shows_what_it_holds(opened: Opener, kept: Stored) -> None:
    identity = kept.send(FILM, "chest/0.9.0")
    kept.backend.retired.add("0.9.0")
    page = opened_result(opened, kept, identity)
    expect(
        page.get_by_text("Version 0.9.0 of chest is retired: its model card and figures are not served any more.")
    ).to_be_visible()
    card = page.locator("#opened .result")
    expect(card.locator(".verdict")).to_contain_text("No pneumonia found: below the cut-off")
    expect(card).to_contain_text("41.0%")
    expect(card).not_to_contain_text("Sensitivity")
    expect(card.get_by_role("button", name="Show heat map")).to_be_hidden()
    card.get_by_text("Details", exact=True).click()
    expect(card).to_contain_text("chest, version 0.9.0 (retired)")


OTHER_ARCHIVE = {
    "sha256": "b" * 64,
    "labels": ["normal", "tuberculosis"],
    "positive": "tuberculosis",
    "warning": "Only for adults.",
    "display": catalog()["models"][0]["versions"][0]["display"] | {"finding": "tuberculosis pattern"},
}


def test_a_result_says_nothing_of_an_archive_that_replaced_its_own(opened: Opener, kept: Stored) -> None:
    film, outline = kept.send(FILM, "chest/1.0.0", name="replaced.png"), kept.send(FILM, "slices/1.0.0")

    def replace(page: Page) -> None:
        models = catalog(**OTHER_ARCHIVE)
        models["models"][3]["versions"][0] |= {"sha256": "b" * 64, "positive": "haemorrhage"}
        page.route("**/api/models", lambda route: route.fulfill(json=models))

    page = opened_result(opened, kept, film, prepare=replace)
    expect(page.get_by_text("is now served from another archive than the one of this result")).to_be_visible()
    card = page.locator("#opened .result")
    expect(card.locator(".verdict")).to_contain_text("Pneumonia: above the cut-off")
    for absent in ("uberculosis", "adults", "Sensitivity"):
        expect(card).not_to_contain_text(absent)
    page.goto(f"{kept.url}/#history/{film}/{outline}")
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()
    expect(page.locator("#opened")).not_to_contain_text("uberculosis")
    look = 'async entry => (await import("/js/history_row.js")).finding(entry).what'
    entry = {"model": "slices", "version": "1.0.0", "label": "background", "positive": False, "probability": None}
    assert page.evaluate(look, entry | {"sha256": "a" * 64}) == "Nothing marked"
    assert page.evaluate(look, entry | {"sha256": "b" * 64}) == "No haemorrhage marked"

    page.unroute("**/api/models")
    page.route("**/api/models", lambda route: route.fulfill(json=catalog(profile=PROFILE)))
    page.goto(f"{kept.url}/#history/{film}")
    page.reload()
    expect(page.get_by_text("is now served with another site profile than at the time of this result")).to_be_visible()
    expect(card).not_to_contain_text("Sensitivity")

    def contradict(route: Route) -> None:
        response = route.fetch()
        route.fulfill(json=json.loads(response.text()) | {"label": "normal"})

    page.route(f"**/api/results/{film}", contradict)
    page.reload()
    expect(page.locator("#opened")).to_contain_text("entry and prediction contradict each other")


def test_results_of_older_releases_show_what_the_list_shows(opened: Opener, tmp_path: Path) -> None:
    old = result(label="pneumonia", positive=True, probability=0.83, filename="old.png")
    plain = result(5, image_sha256=old.image_sha256)

    async def add(*results: Result) -> None:
        history = SqliteHistory(tmp_path / "history.sqlite3")
        await history.add(results)
        await history.close()

    with ThreadPoolExecutor(1) as thread:  # Playwright runs an event loop in this one
        thread.submit(lambda: asyncio.run(add(old, plain))).result()
    with stored(tmp_path) as gateway:
        page = opened_result(opened, gateway, old.id)
        expect(page.get_by_text("An older release of this server stored this result")).to_be_visible()
        expect(page.locator("#opened")).to_contain_text("83.0% (Pneumonia pattern)")
        page.get_by_role("link", name=re.compile("Compare with the result of")).click()
        expect(page.get_by_text("A cut-off was not kept")).to_be_visible()
        expect(page.locator(".difference")).to_contain_text("cannot be subtracted")


def test_an_image_that_is_not_kept_is_joined_to_both_results_of_a_comparison(opened: Opener, unkept: Stored) -> None:
    page = opened_result(opened, unkept, unkept.send(FILM, "chest/1.0.0"), unkept.send(FILM, "chest/2.0.0"))
    expect(page.get_by_text(NOT_KEPT)).to_be_visible()
    expect(page.get_by_text("No picture: the server did not keep this image.")).to_have_count(2)
    expect(page.locator(".pictured .viewer >> visible=true")).to_have_count(0)
    page.set_input_files("#join-file", [payload("film copy.png", FILM)])
    expect(page.locator(".pictured img.picture")).to_have_count(2)
    expect(page.locator(".no-image")).to_have_count(0)
    expect(page.get_by_text(NOT_KEPT)).to_have_count(0)
    page.get_by_role("link", name="Analyse").click()
    page.set_input_files("#pick", [payload("film copy.png", FILM)])  # is not joined to a result that is closed
    expect(page.locator("#result-list .result")).to_contain_text("film copy.png")


def test_a_file_that_was_just_analysed_is_compared_with_pictures_although_it_is_not_kept(
    opened: Opener, unkept: Stored
) -> None:
    page = opened(unkept.url, model="chest")
    page.set_input_files("#pick", [payload("fresh.png", FILM)])
    expect(page.locator("#result-list .result img.picture")).to_be_visible()
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name=re.compile("Open the result of")).first.click()
    expect(page.locator(".opened-body .result img.picture")).to_be_visible()
    expect(page.get_by_text(NOT_KEPT)).to_have_count(0)
    page.get_by_role("button", name="Analyse and compare").click()
    expect(page.get_by_role("heading", name="Comparison")).to_be_focused()
    expect(page.locator(".pictured img.picture")).to_have_count(2)


CLAIMS = """async () => {
    const { expectImages, expectNone, offer } = await import("/js/claims.js");
    const { digest } = await import("/js/prediction.js");
    const files = ["a", "b", "c", "d"].map((name) => new File([name], `${name}.png`));
    const sums = await Promise.all(files.map(digest));
    files[2].arrayBuffer = () => Promise.reject(new Error("gone"));
    const seen = [];
    const names = (list) => [...list].map(({ name }) => name);
    const give = (...indices) => new Promise((resolve) => {
        offer(indices.map((index) => files[index]), (list) => { seen.push(`analyse ${names(list)}`); resolve(); });
        setTimeout(resolve, 300);
    });
    const settle = (matching, rejection) => {
        seen.push(`join ${names(matching.values())}`);
        if (rejection) seen.push(rejection.reason);
        rejection?.analyse();
    };
    const expectFile = (index, isSeries = false) => expectImages([sums[index]], isSeries, settle);
    const stop = expectFile(0);
    const given = give(0);
    expectNone();
    await given;
    const unused = document.getElementById("rejection-list");
    seen.push(unused.querySelector(".reason").textContent);
    unused.querySelector("button").click();
    expectFile(1);
    stop();
    await give(1);
    const stopTwo = expectFile(0);
    await give(0, 1);
    stopTwo();
    expectFile(0, true);
    await give(0, 1, 2, 3);
    expectNone();
    return seen;
}"""


def test_files_are_analysed_only_on_request_while_images_are_expected(opened: Opener, kept: Stored) -> None:
    page = opened(kept.url, model="chest")
    reason = "b.png, d.png do not match these results (different checksums). "
    assert page.evaluate(CLAIMS) == [
        "Not used: the stored result was closed meanwhile, or already has its image.",
        "analyse a.png",
        "join b.png",
        "join a.png",
        "b.png does not match this result (different checksum).",
        "analyse b.png",
        "join a.png",
        f"{reason}c.png cannot be opened. Choose files, not folders.",
        "analyse b.png,d.png",
    ]


@pytest.mark.firefox
def test_two_versions_are_compared_on_the_same_image(opened: Opener, kept: Stored) -> None:
    first = kept.send(FILM, "chest/1.0.0", name="compared.png")
    kept.send(FILM, "chest/1.0.0", "explanations")
    for _ in range(2):
        kept.send(FILM, "chest/2.0.0")
    page = opened_result(opened, kept, first)
    page.get_by_label("Analyse again with version").select_option("2.0.0")
    page.get_by_role("button", name="Analyse and compare").click()
    page.wait_for_url(f"**/#history/{first}/*")
    expect(page.get_by_role("heading", name="Comparison")).to_be_focused()
    expect(page.get_by_text("The cut-offs differ (50% and 65%)")).to_be_visible()
    expect(page.locator(".difference")).to_have_text(
        "Difference in the probability of pneumonia, second minus first: +10.0 percentage points."
    )
    expect(page.locator(".pictured .picture")).to_have_count(2)
    expect(page.locator(".pictured canvas.overlay")).to_have_count(1)  # the heat map of the first one
    expect(page.get_by_role("row", name="Cut-off")).to_contain_text("50%65%")
    page.go_back()
    compare = page.get_by_role("link", name=re.compile("Compare with .* version 2.0.0"))
    expect(compare.first).to_be_visible()
    listed = page.locator(".others .identifier").all_inner_texts()
    assert len(listed) == len(set(listed))  # of equal results, one
    expect(page.get_by_role("link", name="All results of this image")).to_be_visible()


def test_a_repeated_analysis_that_is_not_saved_or_late_opens_no_comparison(opened: Opener, kept: Stored) -> None:
    page = opened_result(opened, kept, kept.send(FILM, "chest/1.0.0"))
    again = page.get_by_role("button", name="Analyse and compare")
    predictions = re.compile(r"/api/predictions/")

    def unavailable(route: Route) -> None:
        route.fulfill(json=json.loads(route.fetch().text()) | {"history": "unavailable"})

    page.route(predictions, unavailable)
    again.click()
    expect(page.locator("#rejections")).to_contain_text("The result was not saved, because the history is unavailable")
    expect(page.locator("#alert")).not_to_contain_text("could not be analysed")
    page.unroute(predictions)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(predictions, hold)
    with page.expect_request(predictions):
        again.click()
    page.get_by_role("button", name="All results").click()
    expect(page.locator("#history-rows tr").first).to_be_visible()
    held[0].continue_()
    expect(page.locator("#announcement")).to_contain_text("The result is in the history.")
    expect(page).to_have_url(re.compile("#history$"))


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_accepts_stored_results_and_comparisons(
    opened: Opener, kept: Stored, unkept: Stored, device: dict[str, Any], scheme: str
) -> None:
    first, second = kept.send(FILM, "chest/1.0.0"), kept.send(FILM, "chest/2.0.0", "explanations")
    for gateway, ids in ((kept, [first]), (kept, [first, second]), (unkept, [unkept.send(FILM, "slices/1.0.0")])):
        page = opened_result(opened, gateway, *ids, color_scheme=scheme, bypass_csp=True, **device)
        expect(page.locator("#opened .stage").first).to_be_visible()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{kept.url}/#history")
    expect(page.locator("#history-rows tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_addresses_and_differences_are_exact(opened: Opener, kept: Stored) -> None:
    page = opened(kept.url, model="chest")
    logic = """async () => {
        const address = await import("/js/history_address.js");
        const { difference, warnings } = await import("/js/history_comparison.js");
        const filters = { model: "chest", text: "a&b=ü", since: "2026-03-01", until: "2026-03-01" };
        const written = address.listAddress(filters, ["x=", "y"]);
        const query = address.apiQuery(filters);
        const entry = { label: "a", probability: 0.5, certainty: null, domain: null, image_sha256: "0", model: "m",
            version: "1", sha256: "s", prevalence: null, repair: null, positive: null };
        const half = { threshold: 0.5, probabilities: { a: 0.5, b: 0.5 }, positive: null, label: "a" };
        const of = (changes, prediction = { ...half, ...changes.prediction }) =>
            ({ entry: { ...entry, ...changes.entry }, prediction });
        const at = (value) => of({ prediction: { probabilities: { a: value } } });
        const area = (fraction) => of({ prediction: { area: { fraction } }, entry: { probability: null } });
        const pairs = [[at(0.5), at(0.5)], [at(0.5), at(0.4999)], [at(0.5), at(0.25)], [area(0.1), area(0.125)],
            [area(0.1), at(0.5)], [at(0.5), of({ entry: { certainty: "uncertain" } })],
            [area(0.04), of({ prediction: { area: { fraction: 0.12 } },
                entry: { probability: null, domain: "unlike" } })]];
        const others = [of({}), of({ entry: { sha256: "t" } }), of({}, null), of({ prediction: { threshold: 0.6 },
            entry: { image_sha256: "1", model: "n", prevalence: 0.1, repair: "invert" } }),
            of({ entry: { profile: "st-marys" } })];
        return {
            read: address.parseAddress(written),
            hours: (Date.parse(query.get("until")) - Date.parse(query.get("since"))) / 3600000,
            invalid: address.apiQuery({ since: "soon" }).get("since"),
            strange: address.parseAddress("#history/../x").ids,
            differences: pairs.map(([one, other]) => difference(one, other).split(": ").at(-1)),
            warnings: others.map((other) => warnings(of({}), other)),
        };
    }"""
    outcome = page.evaluate(logic)
    assert outcome["read"]["cursors"] == ["x=", "y"]
    assert outcome["read"]["filters"]["text"] == "a&b=ü"
    assert outcome["hours"] in (23, 24, 25)
    assert (outcome["invalid"], outcome["strange"]) == ("soon", [])
    assert outcome["differences"] == [
        *(
            "no difference.",
            "less than 0.1 percentage points.",
            "\N{MINUS SIGN}25.0 percentage points.",
            "+2.5 percentage points.",
        ),
        "one has the marked share of the image, the other the probability of a.",
        *["at least one image has no result."] * 2,
    ]
    assert outcome["warnings"] == [
        [],
        ["Both name the same version, but come from different archives."],
        ["A cut-off was not kept, because an older release stored the result: the cut-offs may differ."],
        [
            "These are results of different images: their difference says nothing about the models.",
            "These are results of different models.",
            "The cut-offs differ (50% and 60%): the same probability can be reported differently.",
            "The probabilities assume different prevalences.",
            "The image was changed before one of the analyses only, or in another way.",
        ],
        ["The results are from different site profiles, which set the cut-off."],
    ]
