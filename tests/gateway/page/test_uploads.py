"""Uploads of files that are too large for a request: each is deleted with the only result that needs it."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import IMAGE, PREDICTIONS, script
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_states import problem
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

FILM = payload("film.png", IMAGE)
TURNED = {"mode": "warn", "status": "unlike", "score": 1.3, "percentile": 100, "reason": "rotated_90"}


class Storage:
    """Answers the page's uploads; `stored` holds the keys of the objects, `total` their number so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stored: set[str] = set()
        self.total = 0

    def respond(self, route: Route) -> None:
        if route.request.method == "DELETE":
            (key,) = parse_qs(urlsplit(route.request.url).query)["object"]
            self.stored.remove(key)
            route.fulfill(status=204)
            return
        self.total += 1
        self.stored.add(f"up/{self.total}")
        form = {"object": f"up/{self.total}", "url": f"{self.url}/storage", "fields": {}, "max_bytes": 10**9}
        route.fulfill(json=form)

    def predict(self, route: Route, answer: dict[str, Any]) -> None:
        """Answer a prediction whose object is stored; without an object, the file is too large."""
        request = route.request
        if request.headers["content-type"] != "application/json":
            route.fulfill(**problem(413, "Content too large", "At most 10 bytes."))
        elif json.loads(request.post_data or "")["object"] not in self.stored:
            route.fulfill(**problem(404, "Not found", "There is no such object."))
        elif "image/png" in request.headers["accept"]:
            route.fulfill(content_type="image/png", body=IMAGE)
        else:
            route.fulfill(**answer)


@pytest.fixture
def storage(static_gateway: Gateway) -> Storage:
    return Storage(static_gateway.url)


@pytest.fixture
def page(opened: Opener, static_gateway: Gateway, storage: Storage) -> Page:
    def prepare(page: Page) -> None:
        script(page)
        page.route("**/api/uploads*", storage.respond)
        page.route("**/storage", lambda route: route.fulfill(status=204))

    return opened(static_gateway.url, model="chest", prepare=prepare)


def answer(page: Page, storage: Storage, **response: Any) -> None:
    page.route(PREDICTIONS, lambda route: storage.predict(route, response))


def wait_for(page: Page, held: list[Route], count: int) -> None:
    """Wait until a number of requests is held."""
    for _ in range(400):
        if len(held) == count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(held)} requests instead of {count}")


INVALID = {"json": {"label": "normal"}}


@pytest.mark.parametrize(
    "response", [problem(422, "Out of scope"), problem(503, "Unavailable"), INVALID], ids=["422", "503", "invalid"]
)
def test_the_upload_of_a_failed_analysis_is_deleted(page: Page, storage: Storage, response: dict[str, Any]) -> None:
    answer(page, storage, **response)
    with page.expect_request(lambda request: request.method == "DELETE"):
        choose(page, FILM)
    expect(page.locator(".rejection")).to_be_visible()
    assert storage.total == 1
    assert storage.stored == set()


def test_a_repair_outlives_the_result_that_it_began_from(page: Page, storage: Storage) -> None:
    answer(page, storage, json=prediction(IMAGE, domain=TURNED))
    choose(page, FILM)
    result = shown(page, "film.png")
    held: list[Route] = []
    page.route(lambda url: "repair=" in url, lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks functions
    result.get_by_role("button", name="Turn by 90 degrees and analyse again").click()
    wait_for(page, held, 1)
    held[0].fulfill(**problem(413, "Content too large", "At most 10 bytes."))
    wait_for(page, held, 2)
    with page.expect_request(lambda request: request.method == "DELETE"):
        page.get_by_role("button", name="Clear results").click()
    storage.predict(held[1], {"json": prediction(IMAGE, repair="rotate-270")})
    expect(page.locator(".result .repaired")).to_be_visible()
    expect(page.locator("#rejections")).to_be_hidden()
    assert storage.stored == {"up/2"}
