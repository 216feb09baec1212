"""Chromium, a gateway process and TorchServe."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests import gateways
from tests.gateways import Gateway
from tests.server import Server

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 20_000
"""Milliseconds; the tests share two cores with servers that start."""

Opener = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway without keys or history, with the chest model."""
    with gateways.gateway(server, tmp_path_factory.mktemp("gateway"), history="none") as started:
        yield started


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opener]:
    """Return a function that opens the page; the page must log no error and violate no policy."""
    faults: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # Browsers log responses with an error status.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    with ExitStack() as closing:

        def open_page(url: str, *, ready: bool = True, **options: Any) -> Page:
            chosen = {"viewport": {"width": 1440, "height": 1000}, "service_workers": "block"} | options
            context = browser.new_context(**chosen)
            closing.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("console", listen)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(url)
            if ready:
                page.wait_for_selector("html[data-ready]")
            return page

        yield open_page
    assert not faults


@pytest.fixture
def page(opened: Opener, gateway: Gateway) -> Page:
    """Open the page on a desktop screen."""
    return opened(gateway.url)
