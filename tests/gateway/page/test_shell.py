"""Service worker and offline use."""

import re

import pytest
from playwright.sync_api import expect

from gateway.static_files import FOLDER
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, choose, payload
from tests.gateway.page.test_analyse import shown
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

KEPT = """async () => {
    const found = [];
    for (const name of await caches.keys()) {
        for (const request of await (await caches.open(name)).keys()) found.push(new URL(request.url).pathname);
    }
    return found;
}"""


def test_service_worker_stores_only_the_shell(opened: Opener, gateway: Gateway) -> None:
    page = opened(gateway.url, service_workers="allow")
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    choose(page, payload("film.png", SAMPLE.read_bytes()))
    shown(page, "film.png")
    kept: list[str] = page.evaluate(KEPT)
    assert "/" in kept
    assert "/js/main.js" in kept
    assert not [
        path for path in kept if not (path == "/" or path.startswith(("/js/", "/css/", "/icons/", "/manifest")))
    ]
    page.context.set_offline(offline=True)
    page.reload()
    expect(page.get_by_text("Not a medical device.")).to_be_visible()
    expect(page.locator("#service")).to_contain_text("You are offline.")
    expect(page.locator(".result")).to_have_count(0)


def test_the_shell_lists_every_module_and_style() -> None:
    listed = re.findall(r'"((?:js|css)/[^"]+)"', (FOLDER / "sw.js").read_text(encoding="utf-8"))
    files = sorted(str(path.relative_to(FOLDER)) for kind in ("css", "js") for path in (FOLDER / kind).iterdir())
    assert sorted(listed) == files
