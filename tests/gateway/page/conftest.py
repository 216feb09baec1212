"""Browsers, a gateway process and TorchServe."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

from benchmarks.page import CHROMIUM
from tests.gateways import Gateway
from tests.gateways import gateway as running_gateway
from tests.repack import NAME
from tests.server import Server

FIREFOX = "/usr/bin/firefox-esr"
PATIENCE = 40_000
"""Milliseconds; the tests share two cores with servers that start."""

Opener = Callable[..., Page]


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as driver:
        yield driver


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the marker `firefox` in both browsers, and the others in Chromium."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "opened" not in metafunc.fixturenames or any("browser" in mark.args[0] for mark in marks):
        return
    both = metafunc.definition.get_closest_marker("firefox") is not None or metafunc.config.getoption("firefox")
    if both:
        metafunc.parametrize("browser", ["chromium", "firefox"], indirect=True)


class Browsers(dict[str, Browser]):
    """Browsers by name, each of which is launched when it is needed first."""

    def __init__(self, playwright: Playwright) -> None:
        super().__init__()
        self._playwright = playwright

    def __missing__(self, name: str) -> Browser:
        if name == "firefox":  # Debian's, which has no patches of Playwright, speaks WebDriver BiDi
            self[name] = self._playwright.firefox.launch(channel="moz-firefox", executable_path=FIREFOX)
        else:
            self[name] = self._playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        return self[name]


@pytest.fixture(scope="package")
def browsers(playwright: Playwright) -> Iterator[Browsers]:
    launched = Browsers(playwright)
    yield launched
    for browser in launched.values():
        browser.close()


@pytest.fixture
def browser(browsers: Browsers, request: pytest.FixtureRequest) -> Browser:
    return browsers[getattr(request, "param", "chromium")]


@pytest.fixture(scope="package")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway without keys or history, with the chest model."""
    with running_gateway(server, tmp_path_factory.mktemp("gateway"), history="none") as started:
        yield started


@pytest.fixture(scope="package")
def static_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway without a model server; it serves the page, and tests script the API."""
    with running_gateway(None, tmp_path_factory.mktemp("static"), history="none") as started:
        yield started


CHOICE = """model => {
    try {
        if (localStorage.getItem("radserve.model") === null) localStorage.setItem("radserve.model", model);
    } catch { /* about:blank */ }
}"""


class Contexts:
    """Contexts of browsers. Those of Chromium are used again, because each costs a second of CPU."""

    def __init__(self) -> None:
        self._idle: dict[str, list[BrowserContext]] = defaultdict(list)

    @contextmanager
    def page(self, browser: Browser, url: str, options: Mapping[str, Any]) -> Iterator[Page]:
        """Open an empty page in a context that no other page uses, without stored data of the URL's origin."""
        if browser.browser_type.name != "chromium" or options["service_workers"] != "block":
            with browser.new_context(**options) as context:
                yield context.new_page()
            return
        idle = self._idle[repr(sorted(options.items()))]
        context = idle.pop() if idle else browser.new_context(**options)
        page = context.new_page()
        clear = {"origin": urlsplit(url)._replace(path="", query="", fragment="").geturl(), "storageTypes": "all"}
        context.new_cdp_session(page).send("Storage.clearDataForOrigin", clear)
        yield page
        context.set_offline(offline=False)
        for page in context.pages:
            page.close()
        idle.append(context)


@pytest.fixture(scope="package")
def contexts() -> Contexts:
    return Contexts()


@contextmanager
def opener(browser: Browser, contexts: Contexts) -> Iterator[Opener]:
    """Return a function that opens the page; the page must log no error and violate no policy."""
    faults: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # Browsers log responses with an error status.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    with ExitStack() as closing:

        def open_page(
            url: str,
            *,
            ready: bool = True,
            model: str | None = NAME,
            prepare: Callable[[Page], object] = lambda _: None,
            **options: Any,
        ) -> Page:
            """Open the page with a remembered choice of a model, or without one; `prepare` adds routes before."""
            chosen = {"viewport": {"width": 1440, "height": 1000}, "service_workers": "block"} | options
            page = closing.enter_context(contexts.page(browser, url, chosen))
            if model is not None:
                page.add_init_script(f"({CHOICE})({json.dumps(json.dumps({'name': model}))})")
            page.set_default_timeout(PATIENCE)
            page.on("console", listen)
            page.on("pageerror", lambda error: faults.append(str(error)))
            prepare(page)
            page.goto(url)
            if ready:
                page.wait_for_selector("html[data-ready]")
            return page

        yield open_page
    assert not faults


@pytest.fixture
def opened(browser: Browser, contexts: Contexts) -> Iterator[Opener]:
    """Return a function that opens the page; see `opener`."""
    with opener(browser, contexts) as open_page:
        yield open_page


@pytest.fixture
def page(opened: Opener, gateway: Gateway) -> Page:
    """Open the page on a desktop screen."""
    return opened(gateway.url)


@pytest.fixture(scope="module")
def modules(browsers: Browsers, contexts: Contexts, static_gateway: Gateway) -> Iterator[Page]:
    """Open a page to evaluate its modules, without a server."""
    with opener(browsers["chromium"], contexts) as open_page:
        yield open_page(static_gateway.url, ready=False)
