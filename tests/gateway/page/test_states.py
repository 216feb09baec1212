"""States of the service and of files: starting, offline, key, rate limit, too large, and files of other kinds."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, READY, script
from tests.gateway.page.test_accessibility import faults
from tests.gateway.page.test_analyse import assert_no_result, shown
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

FILM = payload("film.png", IMAGE)
STARTING = {"state": "waiting", "detail": "2 of 5 models are ready. chest 1.0.0: 0 of 1 workers are ready."}


def problem(status: int, title: str = "", detail: str = "", **headers: str) -> dict[str, Any]:
    """Return the arguments of a response with problem details."""
    body = json.dumps({"status": status, "title": title, "detail": detail, "request_id": "r1"})
    return {"status": status, "content_type": "application/problem+json", "body": body, "headers": headers}


def prepared(opener: Opener, gateway: Gateway, routes: dict[str, Any], **options: Any) -> tuple[Page, list[str]]:
    """Open the page with scripted responses, and `routes` (pattern -> handler) that come before them."""
    sent: list[list[str]] = []

    def prepare(page: Page) -> None:
        sent.append(script(page))
        for pattern, handler in routes.items():
            page.route(pattern, handler)

    page = opener(gateway.url, prepare=prepare, **({"model": "chest"} | options))
    return page, sent[0]


@pytest.mark.firefox
def test_files_wait_while_the_service_starts(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = prepared(opened, static_gateway, {"**/ready": lambda route: route.fulfill(status=503, json=STARTING)})
    notice = page.locator("#service")
    expect(notice).to_contain_text("The analysis service is starting.")
    expect(notice).to_contain_text("2 of 5 models are ready.")
    choose(page, FILM)
    expect(page.locator("#waiting")).to_contain_text(
        "1 file is waiting: film.png. Read as Chest X-ray: pneumonia. It is analysed when the service is ready."
    )
    assert_no_result(page)
    assert sent == []
    page.route("**/ready", lambda route: route.fulfill(json=READY))
    shown(page, "film.png")
    expect(notice).to_be_hidden()
    expect(page.locator("#waiting")).to_be_hidden()


def test_files_are_sent_on_demand_although_a_model_is_not_ready(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = prepared(opened, static_gateway, {"**/ready": lambda route: route.fulfill(status=503, json=STARTING)})
    choose(page, FILM)
    page.get_by_role("button", name="Send now").click()
    shown(page, "film.png")
    expect(page.locator("#service")).to_be_hidden()


def test_sending_on_demand_ends_with_the_next_check(opened: Opener, static_gateway: Gateway) -> None:
    page, sent = prepared(opened, static_gateway, {"**/ready": lambda route: route.fulfill(status=503, json=STARTING)})
    notice = page.locator("#service")
    expect(notice).to_contain_text("The analysis service is starting.")
    expect(page.get_by_role("button", name="Send now")).to_be_hidden()  # nothing to send
    choose(page, FILM)
    page.get_by_role("button", name="Send now").click()
    expect(notice).to_be_hidden()
    shown(page, "film.png")
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(notice).to_contain_text("The analysis service is starting.")
    choose(page, payload("other.png", IMAGE))
    expect(page.locator("#waiting")).to_be_visible()
    assert len(sent) == 1


def test_files_wait_while_the_server_cannot_be_reached(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = prepared(opened, static_gateway, {"**/api/models": lambda route: route.abort()}, model=None)
    expect(page.locator("#service")).to_contain_text("No connection to the server. Retrying.")
    choose(page, FILM)
    expect(page.locator("#waiting")).to_contain_text("1 file is waiting: film.png. Choose what it shows.")
    page.unroute("**/api/models")
    script(page)
    page.get_by_role("button", name="Chest X-ray: pneumonia").click()
    shown(page, "film.png")


def test_the_page_waits_for_a_server_that_is_down(opened: Opener, static_gateway: Gateway) -> None:
    down = problem(502, "Bad gateway", "The analysis service is unreachable; it is starting or down.")
    page, _ = prepared(opened, static_gateway, {"**/api/models": lambda route: route.fulfill(**down)})
    expect(page.locator("#service")).to_contain_text("The analysis service is starting")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    expect(page.get_by_text("Choose files")).to_be_visible()
    page.unroute("**/api/models")
    script(page)
    expect(page.locator("#choice-name")).to_have_text("Chest X-ray: pneumonia")


def test_an_offline_browser_is_said_to_be_offline(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = prepared(opened, static_gateway, {})
    page.route("**/api/models", lambda route: route.abort())
    page.context.set_offline(offline=True)
    expect(page.locator("#service")).to_contain_text("You are offline.")
    choose(page, FILM)
    expect(page.locator("#waiting")).to_contain_text("film.png")
    page.unroute("**/api/models")
    page.context.set_offline(offline=False)
    script(page)
    shown(page, "film.png")


@pytest.mark.firefox
def test_without_a_key_the_page_says_so_and_asks_again(opened: Opener, static_gateway: Gateway) -> None:
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer good":
            route.fallback()
        else:
            route.fulfill(**problem(401, "Unauthorized", "Send a key."))

    page, _ = prepared(opened, static_gateway, {"**/api/models": guarded}, ready=False)
    page.get_by_role("button", name="Cancel").click()
    notice = page.locator("#service")
    expect(notice).to_contain_text("Access key required.")
    choose(page, FILM)
    expect(page.locator("#waiting")).to_contain_text("film.png")
    notice.get_by_role("button", name="Enter access key").click()
    page.get_by_role("textbox", name="Access key").fill("good")
    page.get_by_role("button", name="Continue").click()
    shown(page, "film.png")
    expect(notice).to_be_hidden()


@pytest.mark.firefox
def test_a_rate_limit_says_when_to_try_again(opened: Opener, static_gateway: Gateway) -> None:
    limited = problem(429, "Too many requests", "", **{"Retry-After": "3"})
    page, _ = prepared(opened, static_gateway, {})
    page.route(PREDICTIONS, lambda route: route.fulfill(**limited))
    choose(page, FILM)
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text("Too many requests.")
    expect(rejection.get_by_role("button", name=re.compile(r"Try again in \d s"))).to_be_disabled()
    page.unroute(PREDICTIONS)
    script(page)
    rejection.get_by_role("button", name="Try again", exact=True).click()
    shown(page, "film.png")


def test_a_file_that_is_too_large_is_uploaded(opened: Opener, static_gateway: Gateway) -> None:
    form = {"object": "up/1", "url": f"{static_gateway.url}/storage", "fields": {"policy": "p"}, "max_bytes": 10**9}
    bodies: list[Any] = []

    def predict(route: Route) -> None:
        request = route.request
        if request.headers["content-type"] != "application/json":
            route.fulfill(**problem(413, "Content too large", "At most 10 bytes."))
        else:
            bodies.append(json.loads(request.post_data or ""))
            model = {"name": "chest", "version": "1.0.0", "sha256": "a" * 64}
            route.fulfill(json=prediction(IMAGE, model=model))

    deleted: list[str] = []

    def uploads(route: Route) -> None:
        if route.request.method == "DELETE":
            deleted.append(route.request.url.partition("?")[2])
            route.fulfill(status=204)
        else:
            route.fulfill(json=form)

    routes = {"**/api/uploads*": uploads, "**/storage": lambda route: route.fulfill(status=204)}
    page, _ = prepared(opened, static_gateway, routes)
    page.route(PREDICTIONS, predict)
    with page.expect_request("**/storage") as stored:
        choose(page, FILM)
    assert stored.value.method == "POST"
    shown(page, "film.png")
    expect(page.locator("#rejections")).to_be_hidden()
    assert bodies[0] == {"object": "up/1"}
    with page.expect_request("**/api/uploads?*"):
        page.get_by_role("button", name="Clear results").click()
    assert deleted == ["object=up%2F1"]


@pytest.mark.parametrize(
    "uploads", [problem(404, "Not found", "Uploads are disabled."), None], ids=["off", "still too large"]
)
def test_a_file_that_cannot_be_uploaded_has_advice_instead_of_a_retry(
    opened: Opener, static_gateway: Gateway, uploads: dict[str, Any] | None
) -> None:
    form = {"object": "up/1", "url": "https://storage.invalid/", "fields": {}, "max_bytes": 5}
    answer: dict[str, Any] = uploads or {"json": form}
    page, _ = prepared(opened, static_gateway, {"**/api/uploads": lambda route: route.fulfill(**answer)})
    page.route(PREDICTIONS, lambda route: route.fulfill(**problem(413, "Content too large", "At most 10 bytes.")))
    choose(page, FILM)
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text("This file is too large for this server. Export it compressed")
    expect(rejection.get_by_role("button")).to_have_text(["Dismiss"])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC photos cannot be read. Save the photo as JPEG"),
        ("slices.zip", b"PK\3\4 and so on", "This zip file is damaged or incomplete. Export it again."),
        ("letter.docx", b"PK\3\4 and so on", "This is a document. Save the image in it as PNG"),
        ("report.pdf", b"%PDF-1.7", "PDFs cannot be read. Export the image as PNG."),
        ("empty.png", b"", "This file is empty."),
    ],
)
def test_files_of_other_kinds_are_named_with_what_to_do(
    opened: Opener, static_gateway: Gateway, name: str, content: bytes, text: str
) -> None:
    page, sent = prepared(opened, static_gateway, {})
    choose(page, payload(name, content))
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text(text)
    expect(rejection.get_by_role("button")).to_have_text(["Dismiss"])
    assert sent == []


@pytest.mark.parametrize(
    ("status", "title", "buttons"),
    [
        (404, "Not found", ["Dismiss"]),
        (415, "Unsupported media type", ["Dismiss"]),
        (422, "Unreadable image", ["Dismiss"]),
        (422, "Out of scope", ["Choose another kind of image", "Dismiss"]),
        (422, "Unusable image", ["Choose another kind of image", "Dismiss"]),
        (422, "Missing attribute", ["Try again", "Choose another kind of image", "Dismiss"]),
        (500, "Internal error", ["Try again", "Dismiss"]),
        (503, "Unavailable", ["Try again", "Dismiss"]),
    ],
)
def test_try_again_is_offered_only_where_it_can_help(
    opened: Opener, static_gateway: Gateway, status: int, title: str, buttons: list[str]
) -> None:
    page, _ = prepared(opened, static_gateway, {})
    page.route(PREDICTIONS, lambda route: route.fulfill(**problem(status, title)))
    choose(page, FILM)
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text("Read as Chest X-ray: pneumonia")
    expect(rejection.get_by_role("button")).to_have_text(buttons)
    assert_no_result(page)


def test_an_image_out_of_scope_leads_to_another_kind(opened: Opener, static_gateway: Gateway) -> None:
    page, _ = prepared(opened, static_gateway, {})
    page.route(PREDICTIONS, lambda route: route.fulfill(**problem(422, "Out of scope", "The age is out of scope.")))
    choose(page, FILM)
    page.get_by_role("button", name="Choose another kind of image").click()
    expect(page.get_by_role("heading", name="What do your images show?")).to_be_focused()


@pytest.mark.firefox
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_accepts_notices_and_rejections(opened: Opener, static_gateway: Gateway, scheme: str) -> None:
    page, _ = prepared(opened, static_gateway, {}, color_scheme=scheme, bypass_csp=True)
    page.route(
        PREDICTIONS, lambda route: route.fulfill(**problem(429, "Too many requests", "", **{"Retry-After": "30"}))
    )
    choose(page, FILM)
    expect(page.locator(".rejection")).to_be_visible()
    page.route("**/ready", lambda route: route.fulfill(status=503, json=STARTING))
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    expect(page.locator("#service")).to_be_visible()
    choose(page, FILM)
    expect(page.locator("#waiting")).to_be_visible()
    assert faults(page) == []
