"""View of the cases of a PACS loop, with a real gateway and the real endpoint of a loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.gateway.page.conftest import Opener
from tests.gateway.page.test_accessibility import AXE, DESK, PHONE, faults
from tests.gateways import Gateway, gateway
from tests.radserve.pacs.cases import ADULT, FAILURE, OUTAGE, Endpoint, filled

pytestmark = pytest.mark.e2e


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Endpoint]:
    with filled(tmp_path / "loop", "a correct token of it") as endpoint:
        yield endpoint


@pytest.fixture
def connected(loop: Endpoint, tmp_path: Path) -> Iterator[Gateway]:
    """Run a gateway that is connected to the loop."""
    with gateway(None, tmp_path, history="none", pacs=loop.url, pacs_token="a correct token of it") as started:
        yield started


def opened_at(opened: Opener, url: str, **options: Any) -> Page:
    page = opened(f"{url}/#cases", prepare=lambda page: page.add_init_script(path=AXE), **options)
    expect(page.get_by_role("heading", name="PACS cases")).to_be_visible()
    return page


def test_cases_are_explained_filtered_resent_and_refreshed(opened: Opener, connected: Gateway, loop: Endpoint) -> None:
    page = opened_at(opened, connected.url)
    rows = page.locator("#cases-rows tr")
    states = ["In analysis", "Waiting", "Failed", "Not analysed", "Done"]
    expect(rows.locator(".tag")).to_have_text(states)
    expect(rows.nth(1)).to_contain_text(OUTAGE)
    expect(rows.nth(1)).to_contain_text("Failed 2 times; next try")
    expect(rows.nth(2)).to_contain_text(FAILURE)
    expect(rows.nth(3)).to_contain_text(ADULT)
    expect(page.get_by_label("State").locator("option")).to_have_text(
        [
            "All (5)",
            "Waiting (1)",
            "In analysis (1)",
            "Result on its way (0)",
            "Done (1)",
            "Not analysed (1)",
            "Failed (1)",
        ]
    )
    page.get_by_label("State").select_option("dead")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(f"{connected.url}/#cases?state=dead")
    page.get_by_role("button", name="Resend case 3").click()
    expect(page.locator("#cases-message")).to_have_text("1 case in the queue again.")
    expect(rows).to_have_text(["No cases in this state."])
    expect(page.get_by_role("button", name="Resend all failed")).to_be_hidden()
    expect(page.get_by_role("heading", name="PACS cases")).to_be_focused()
    page.get_by_label("State").select_option("received")
    expect(rows).to_have_count(2)
    job = loop.queue.claim()
    assert job is not None
    loop.queue.finish(job, "done")
    expect(rows).to_have_count(1)  # without a click
    page.evaluate("location.hash = '#cases?state=bogus'")
    expect(rows).to_have_count(5)
    page.get_by_role("link", name="Analyse").click()
    expect(page.get_by_role("heading", name="PACS cases")).to_be_hidden()


def test_all_failed_cases_are_resent_and_a_failure_to_do_so_is_shown(
    opened: Opener, connected: Gateway, loop: Endpoint
) -> None:
    page = opened_at(opened, connected.url)
    (failed,) = loop.queue.jobs("dead")
    image = loop.queue.images / failed.file
    image.rename(image.with_suffix(".away"))
    resend = page.get_by_role("button", name="Resend all failed")
    resend.click()
    expect(page.locator("#cases-message")).to_have_text("0 cases in the queue again. Those that still failed say why.")
    expect(page.locator("#cases-rows")).to_contain_text("The image is missing; send it again.")
    expect(resend).to_be_focused()
    image.with_suffix(".away").rename(image)
    resend.click()
    expect(page.locator("#cases-message")).to_have_text("1 case in the queue again.")
    assert loop.queue.counts()["dead"] == 0


def test_a_loop_that_is_away_or_not_connected_is_explained(
    opened: Opener, connected: Gateway, static_gateway: Gateway, loop: Endpoint
) -> None:
    page = opened_at(opened, static_gateway.url)
    problem = page.locator("#cases-problem")
    expect(problem).to_contain_text("No PACS loop is connected")
    expect(problem).to_contain_text("RADSERVE_GATEWAY_PACS=http://127.0.0.1:8095")
    page = opened_at(opened, connected.url)
    expect(page.locator("#cases-rows tr")).to_have_count(5)
    loop.queue.close()
    problem = page.locator("#cases-problem")
    expect(problem).to_contain_text("The queue cannot be used (ProgrammingError).")
    expect(page.locator("#cases-rows")).to_be_hidden()


@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_accepts_the_cases(
    opened: Opener, connected: Gateway, loop: Endpoint, device: dict[str, Any], scheme: str
) -> None:
    page = opened_at(opened, connected.url, color_scheme=scheme, **device)
    expect(page.locator("#cases-rows tr")).to_have_count(5)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    loop.queue.close()
    expect(page.locator("#cases-problem")).to_be_visible()
    assert faults(page) == []
