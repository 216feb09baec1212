"""Access key dialog."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, choose, payload
from tests.gateway.page.test_analyse import FOUND, shown
from tests.gateways import Gateway, gateway
from tests.proxy import Keys
from tests.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def closed(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(server, tmp_path_factory.mktemp("closed"), history="none", keys=keys.file) as started:
        yield started


def test_key_is_requested_and_stays_in_tab(opened: Opener, closed: Gateway, keys: Keys) -> None:
    page = opened(closed.url, ready=False)
    result = page.get_by_role("dialog", name="Access key required")
    field = result.get_by_label("Access key")
    expect(field).to_be_focused()
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(field).to_have_value("")  # the dialog is open again
    field.fill(keys.texts["predict"])
    result.get_by_role("button", name="Continue").click()
    expect(result).to_be_hidden()
    page.wait_for_selector("html[data-ready]")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    expect(shown(page, "film.png").locator(".label")).to_have_text(FOUND)
    assert keys.texts["predict"] not in str(page.evaluate("Object.entries(localStorage)"))
    assert keys.texts["predict"] not in page.content()
    assert keys.texts["predict"] not in page.url
    page.get_by_role("button", name="Forget key").click()
    choose(page, payload("again.png", SAMPLE.read_bytes()))
    expect(result).to_be_visible()
    result.get_by_role("button", name="Cancel").click()
    expect(page.locator("#rejection-list")).to_contain_text("again.png")
    expect(page.locator(".result")).to_have_count(1)
