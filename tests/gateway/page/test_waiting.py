"""Files that wait: each is read as what was chosen, and with what was stated, when it was dropped."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload, pick
from tests.gateway.page.scripted import CHEST, IMAGE, PREDICTIONS, READY, SLICE, catalog, script
from tests.gateway.page.test_accessibility import faults
from tests.gateway.page.test_analyse import assert_no_result, shown
from tests.gateway.page.test_states import STARTING, problem
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

FIRST, SECOND = payload("first.png", IMAGE), payload("second.png", IMAGE)
SCOPED = catalog(scope=["age"])
Sent = dict[str, tuple[str, str | None]]
"""File name -> path of its prediction, and what was assured."""


def recorded(page: Page) -> Sent:
    """Answer predictions; return what was sent about each file, as far as it was sent."""
    sent: Sent = {}

    def respond(route: Route) -> None:
        request = route.request
        path = request.url.partition("/api/predictions/")[2]
        if "image/png" in request.headers["accept"]:
            route.fulfill(content_type="image/png", body=IMAGE)
            return
        body = (request.post_data_buffer or b"").decode("latin-1")
        name = next(name for name in ("first.png", "second.png") if name in body)
        assert name not in sent
        sent[name] = path, request.headers.get("x-assurances")
        share = float(path.partition("prevalence=")[2] or 0.5)
        model = {"name": path.partition("?")[0], "version": "1.0.0", "sha256": "a" * 64}
        route.fulfill(json=prediction(IMAGE, model=model, prevalence=share))

    page.route(PREDICTIONS, respond)
    return sent


def opened_page(
    opener: Opener, gateway: Gateway, prepare: Callable[[Page], object] = lambda _: None, **options: Any
) -> tuple[Page, Sent]:
    """Open the page with scripted models, one of which checks the age."""
    sent: list[Sent] = []

    def scripted(page: Page) -> None:
        script(page, SCOPED)
        sent.append(recorded(page))
        prepare(page)

    page = opener(gateway.url, prepare=scripted, **({"model": "chest"} | options))
    return page, sent[0]


def starting(page: Page) -> None:
    page.route("**/ready", lambda route: route.fulfill(status=503, json=STARTING))


def start(page: Page) -> None:
    page.route("**/ready", lambda route: route.fulfill(json=READY))


def test_a_waiting_file_is_sent_with_the_age_that_was_stated_for_it(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = opened_page(opened, static_gateway, starting)
    for age, file in (("70", FIRST), ("4", SECOND)):
        page.get_by_label("Age in years").fill(age)
        choose(page, file)
        expect(page.get_by_label("Age in years")).to_have_value("")
    start(page)
    shown(page, "first.png")
    shown(page, "second.png")
    assert sent == {"first.png": ("chest", "age=70"), "second.png": ("chest", "age=4")}


HOLD = """() => {
    const read = Blob.prototype.arrayBuffer;
    const released = new Promise((resolve) => { window.release = resolve; });
    Blob.prototype.arrayBuffer = async function () { await released; return read.call(this); };
}"""


def test_files_are_sent_with_what_was_stated_and_chosen_when_they_were_dropped(
    opened: Opener, static_gateway: Gateway
) -> None:
    page, sent = opened_page(opened, static_gateway)
    page.evaluate(HOLD)
    age = page.get_by_label("Age in years")
    age.fill("4")
    choose(page, FIRST, SECOND)
    expect(age).to_have_value("")
    age.fill("70")
    pick(page, "plain")
    page.evaluate("window.release()")
    shown(page, "first.png")
    shown(page, "second.png")
    assert sent == {"first.png": ("chest", "age=4"), "second.png": ("chest", "age=4")}
    note = page.get_by_role("group", name="Stated for several files")
    expect(note).to_contain_text("Stated for all 2 files: Age 4. Add the files of another patient separately.")
    note.get_by_role("button", name="Dismiss").click()
    expect(note).to_have_count(0)


def test_a_waiting_file_is_sent_with_the_share_that_was_stated_for_it(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = opened_page(opened, static_gateway, starting)
    for share, file in (("10", FIRST), ("20", SECOND)):
        page.get_by_label("Share of positive images").fill(share)
        choose(page, file)
    start(page)
    shown(page, "first.png")
    shown(page, "second.png")
    assert sent == {"first.png": ("chest?prevalence=0.1", None), "second.png": ("chest?prevalence=0.2", None)}


def test_a_waiting_file_is_read_as_what_was_chosen_when_it_was_dropped(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = opened_page(opened, static_gateway, starting)
    choose(page, FIRST)
    waiting = page.locator("#waiting")
    expect(waiting).to_contain_text(f"1 file is waiting: first.png. Read as {CHEST}.")
    pick(page, "plain")
    choose(page, SECOND)
    expect(waiting).to_contain_text(f"first.png is read as {CHEST}. second.png is read as Pneumonia.")
    start(page)
    expect(shown(page, "first.png")).to_contain_text(f"Read as {CHEST}")
    expect(shown(page, "second.png")).to_contain_text("Read as Pneumonia")
    assert {name: path for name, (path, _) in sent.items()} == {"first.png": "chest", "second.png": "plain"}


def test_files_wait_only_for_their_own_model(opened: Opener, static_gateway: Gateway) -> None:
    models = catalog(scope=["age"], ready=False)
    for model in models["models"][1:]:
        model["versions"][0]["ready"] = True

    def partly(page: Page) -> None:
        starting(page)
        page.route("**/api/models", lambda route: route.fulfill(json=models))

    page, sent = opened_page(opened, static_gateway, partly)
    expect(page.locator("#service")).to_contain_text("Some models are not ready.")
    expect(page.locator("#service")).to_contain_text(STARTING["detail"])
    choose(page, FIRST)
    expect(page.locator("#waiting")).to_contain_text(f"Read as {CHEST}. It is analysed when the model is ready.")
    pick(page, "plain")
    choose(page, SECOND)
    shown(page, "second.png")
    assert list(sent) == ["second.png"]
    models["models"][0]["versions"][0]["ready"] = True
    shown(page, "first.png")
    expect(page.locator("#waiting")).to_be_hidden()


def test_before_the_models_are_known_the_page_names_what_it_will_read_a_file_as(
    opened: Opener, static_gateway: Gateway
) -> None:
    page, _ = opened_page(opened, static_gateway, lambda page: page.route("**/api/models", lambda route: route.abort()))
    choose(page, FIRST)
    expect(page.locator("#waiting")).to_contain_text("1 file is waiting: first.png. Read as chest.")
    page.route("**/api/models", lambda route: route.fulfill(json=SCOPED))
    expect(shown(page, "first.png")).to_contain_text(f"Read as {CHEST}")


def test_a_remembered_model_that_is_not_served_leaves_its_file_without_a_choice(
    opened: Opener, static_gateway: Gateway
) -> None:
    def unreachable(page: Page) -> None:
        page.route("**/api/models", lambda route: route.abort())

    page, sent = opened_page(opened, static_gateway, unreachable, model="retired")
    choose(page, FIRST)
    page.route("**/api/models", lambda route: route.fulfill(json=SCOPED))
    expect(page.locator("#waiting")).to_contain_text("Choose what it shows.")
    assert sent == {}
    page.get_by_role("button", name=CHEST, exact=True).click()
    expect(shown(page, "first.png")).to_contain_text(f"Read as {CHEST}")


def test_a_file_that_is_dropped_while_the_kind_is_chosen_waits_for_the_choice(
    opened: Opener, static_gateway: Gateway
) -> None:
    page, sent = opened_page(opened, static_gateway)
    page.get_by_role("button", name="Change").click()
    choose(page, FIRST)
    expect(page.locator("#waiting")).to_contain_text("1 file is waiting: first.png. Choose what it shows.")
    expect(page.get_by_role("heading", name="What do your images show?")).to_be_focused()
    assert_no_result(page)
    assert sent == {}
    page.locator("[data-name=plain]").click()
    expect(shown(page, "first.png")).to_contain_text("Read as Pneumonia")
    assert sent == {"first.png": ("plain", None)}


def test_a_file_that_is_dropped_while_the_kind_is_chosen_is_sent_when_the_choice_is_kept(
    opened: Opener, static_gateway: Gateway
) -> None:
    page, sent = opened_page(opened, static_gateway)
    page.get_by_role("button", name="Change").click()
    choose(page, FIRST)
    page.get_by_role("button", name=f"Keep {CHEST}").click()
    shown(page, "first.png")
    expect(page.locator("#waiting")).to_be_hidden()
    assert sent == {"first.png": ("chest", None)}


def test_a_file_out_of_scope_is_read_as_the_other_kind_that_is_chosen(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = opened_page(opened, static_gateway)
    refused = problem(422, "Out of scope", "The age is out of scope.")
    page.route("**/api/predictions/chest", lambda route: route.fulfill(**refused))
    choose(page, FIRST)
    page.get_by_role("button", name="Choose another kind of image").click()
    expect(page.locator(".rejection")).to_have_count(0)
    expect(page.locator("#waiting")).to_contain_text("1 file is waiting: first.png. Choose what it shows.")
    page.locator("[data-name=plain]").click()
    expect(shown(page, "first.png")).to_contain_text("Read as Pneumonia")


def test_the_sample_is_read_as_its_own_model_and_leaves_what_is_stated_about_the_next_file(
    opened: Opener, static_gateway: Gateway
) -> None:
    held: list[Route] = []
    page, _ = opened_page(opened, static_gateway)
    page.route(PREDICTIONS, lambda route: route.fulfill(json=prediction(IMAGE)))
    page.route("**/chest/*/sample", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks functions
    page.reload()
    page.get_by_label("Age in years").fill("4")
    page.get_by_role("button", name="Try the sample").click()
    pick(page, "plain")
    with page.expect_request(PREDICTIONS) as request:
        for route in held:
            route.fulfill(content_type="image/png", body=IMAGE)
    assert request.value.url.endswith("/api/predictions/chest")
    assert "x-assurances" not in request.value.headers
    expect(shown(page, "chest-sample.png")).to_contain_text(f"Read as {CHEST}")
    pick(page, "chest")
    expect(page.get_by_label("Age in years")).to_have_value("4")


def test_axe_accepts_files_that_wait_for_different_things(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = opened_page(opened, static_gateway, starting, bypass_csp=True)
    choose(page, FIRST)
    page.get_by_role("button", name="Change").click()
    choose(page, SECOND)
    expect(page.locator("#waiting")).to_contain_text(
        f"2 files are waiting: first.png, second.png. first.png is read as {CHEST}. Choose what second.png shows."
        " They are analysed when the service is ready."
    )
    expect(page.get_by_role("button", name=SLICE)).to_be_visible()
    assert faults(page) == []
