"""Accessibility: axe-core and keyboard operation."""

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import SAMPLE, choose, payload
from tests.gateway.page.test_analyse import shown
from tests.gateways import Gateway

pytestmark = pytest.mark.e2e

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
CHEST = "Chest X-ray: pneumonia"
DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 1000}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def faults(page: Page) -> list[str]:
    """Return the serious violations that axe-core reports."""
    loaded = page.evaluate("() => 'axe' in globalThis")
    result = (page.evaluate("() => axe.run()") if loaded else Axe().run(page).response)["violations"]
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in result
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize(
    ("browser", "scheme", "device"),
    [
        *(("chromium", scheme, device) for scheme in ("light", "dark") for device in (DESK, PHONE)),
        ("firefox", "light", DESK),
    ],
    ids=["light-desk", "light-phone", "dark-desk", "dark-phone", "firefox"],
    indirect=["browser"],
)
def test_axe_accepts_all_views(opened: Opener, gateway: Gateway, device: dict[str, Any], scheme: str) -> None:
    # The tool would evaluate axe-core from a string, which the page's policy forbids; Firefox cannot bypass that.
    page = opened(gateway.url, color_scheme=scheme, prepare=lambda page: page.add_init_script(path=AXE), **device)
    assert faults(page) == []
    choose(page, payload("film.png", SAMPLE.read_bytes()), payload("broken.png", b"\x89PNG\r\n\x1a\n cut"))
    result = shown(page, "film.png")
    result.get_by_role("button", name="Show heat map").click()
    expect(result.locator("canvas.overlay")).to_be_visible()
    result.get_by_text("Details", exact=True).click()
    expect(page.locator("#rejections")).to_be_visible()
    assert faults(page) == []
    page.get_by_role("button", name="Model card").click()
    expect(page.locator("#card-text table").first).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#history-note")).to_be_visible()
    page.evaluate("document.getElementById('history-body').hidden = false")  # shows the filter and the empty table
    assert faults(page) == []


def tab_to(page: Page, name: str, most: int = 40) -> None:
    """Press Tab until an element with a name has a visible focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused: dict[str, str] = page.evaluate(
            "() => { const at = document.activeElement; const style = getComputedStyle(at);"
            " return { name: at.getAttribute('aria-label') ?? at.labels?.[0]?.textContent ?? at.textContent,"
            " outline: style.outlineStyle, beside: getComputedStyle(at.nextElementSibling ?? at).outlineStyle }; }"
        )
        assert "solid" in (focused["outline"], focused["beside"]), f"no outline around {focused['name']!r}"
        if focused["name"].strip().startswith(name):
            return
    pytest.fail(f"Tab does not reach {name!r}")


@pytest.mark.firefox
def test_page_works_by_keyboard(page: Page) -> None:
    tab_to(page, "Skip to content", 1)
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    tab_to(page, "Change")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What do your images show?")).to_be_focused()
    tab_to(page, CHEST)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Images to analyse")).to_be_focused()
    tab_to(page, "Choose files")
    # Headless browsers do not reliably open the file dialog by key, so the files are set directly.
    expect(page.locator("#pick")).to_be_focused()
    page.locator("#pick").set_input_files([payload("film.png", SAMPLE.read_bytes())])
    result = shown(page, "film.png")
    expect(page.locator("#announcement")).to_contain_text("film.png: Pneumonia pattern: above the cut-off")
    tab_to(page, "Model card")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Model card")).to_be_focused()
    tab_to(page, "Image film.png")
    page.keyboard.press("+")
    expect(result.locator(".level")).to_have_text("140%")
    page.keyboard.press("0")
    expect(result.locator(".level")).to_have_text("100%")
    tab_to(page, "Show heat map")
    page.keyboard.press("Enter")
    expect(result.locator("canvas.overlay")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    for _ in range(4):
        if page.evaluate("document.activeElement.type") == "range":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    expect(result.locator("canvas.overlay")).to_have_css("opacity", "0")


def test_theme_is_remembered(opened: Opener, gateway: Gateway) -> None:
    page = opened(gateway.url, color_scheme="light")
    ground = "rgb(243, 246, 248)"
    expect(page.locator("body")).to_have_css("background-color", ground)
    toggle = page.get_by_role("button", name="Dark theme")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(page.locator("body")).not_to_have_css("background-color", ground)
    page.reload()
    expect(page.locator("body")).not_to_have_css("background-color", ground)
    expect(toggle).to_have_attribute("aria-pressed", "true")
