"""/api/docs: files, and what a browser shows."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from benchmarks.page import CHROMIUM
from gateway.api import documentation
from tests.gateway.application import client, gateway, serving
from tests.gateway.page.conftest import PATIENCE


def get(path: str, **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(gateway()) as http:
            return await http.get(path, headers=headers)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/api/docs", "text/html"),
        ("/api/docs/main.js", "text/javascript"),
        ("/api/docs/swagger-ui-bundle.js", "text/javascript"),
        ("/api/docs/swagger-ui.css", "text/css"),
    ],
)
def test_files_are_served_under_the_policy_of_the_page_and_revalidated(path: str, media: str) -> None:
    response = get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media)
    assert response.headers["content-security-policy"] == get("/").headers["content-security-policy"]
    assert get(path, **{"If-None-Match": response.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("name", ["main.py", "..%2fmain.js", "index.html", "favicon-32x32.png"])
def test_other_files_are_not_served(name: str) -> None:
    assert get(f"/api/docs/{name}").status_code == 404


def test_a_missing_bundle_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "_BUNDLE", "package_that_is_not_installed")
    for path in ("/api/docs", "/api/docs/swagger-ui.css"):
        response = get(path)
        assert response.status_code == 404
        assert "pip install 'radserve[gateway]'" in response.json()["detail"]
        assert "/api/openapi.json" in response.json()["detail"]


@pytest.fixture
def address() -> Iterator[str]:
    with serving(gateway()) as result:
        yield f"http://{result}"


def test_a_browser_shows_every_operation_and_sends_requests_without_a_violation_of_the_policy(address: str) -> None:
    faults: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(address) else None)
        page.goto(f"{address}/api/docs")
        page.wait_for_selector("html[data-ready]")
        operations = [item["summary"] for path in gateway().openapi()["paths"].values() for item in path.values()]
        shown = page.locator(".opblock-summary-description").all_inner_texts()
        assert sorted(shown) == sorted(operations)
        page.get_by_text("List the models that can be used").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text(
            "200", timeout=PATIENCE
        )
        expect(page.locator(".live-responses-table")).to_contain_text('"chest"', timeout=PATIENCE)
        browser.close()
    assert faults == []
