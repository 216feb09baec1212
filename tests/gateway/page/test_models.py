"""Model cards, masks, small inputs and samples."""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Page, Route, expect

from radserve.build.source import find_sources
from tests.built_archives import Provide
from tests.conftest import ROOT
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.test_analyse import shown
from tests.gateways import Gateway
from tests.gateways import gateway as before
from tests.handlers.images import npy, saved
from tests.repack import NAME
from tests.server import running
from tests.spots import agreement, figure, packed, painted

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def several(provide: Provide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway with a segmentation and a model of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("several")
    packed(folder / "store", folder)
    provide(folder / "store", find_sources(ROOT / "archives", ["cifar10-lenet"]))
    with running(folder / "store", folder / "log") as server, before(server, folder, history="none") as gateway:
        yield gateway


def test_model_card_opens(page: Page) -> None:
    page.get_by_role("button", name="Model card").click()
    card = page.get_by_role("dialog", name=f"({NAME} 1.0.0)")
    expect(card).to_contain_text("one hospital, show children of one to five years")
    expect(card.get_by_role("cell", name="AUROC")).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(page.get_by_role("button", name="Model card")).to_be_focused()


def test_scores_of_a_model_with_a_site_profile_are_as_shipped(page: Page) -> None:
    def profiled(route: Route) -> None:
        response = route.fetch()
        document = response.json()
        for model in document["models"]:
            for version in model["versions"]:
                version["profile"] = {"name": "st-marys", "sha256": "b" * 64}
        route.fulfill(response=response, json=document)

    about = page.locator("#model-about")
    expect(about).not_to_contain_text("as shipped")
    page.route("**/api/models", profiled)
    page.reload()
    expect(about).to_contain_text("Site profilest-marys")
    expect(about).to_contain_text("Measured as shipped, without the site profile, on held-out images")


def test_card_html_is_sanitized_without_csp(opened: Opener, gateway: Gateway) -> None:
    page = opened(gateway.url, bypass_csp=True)
    html = (
        "<h1>Card</h1><table><tr><th>figure</th></tr></table><script>document.title = 'run'</script>"
        "<img src=x onerror=\"document.title = 'run'\"><p onclick=x style='color: red'>Limits</p>"
        "<a href='javascript:alert(1)'>bad</a> <a href='https://example.org/'>good</a>"
    )
    page.route("**/card", lambda route: route.fulfill(content_type="text/html", body=html))
    page.get_by_role("button", name="Model card").click()
    text = page.locator("#card-text")
    expect(text.get_by_text("Limits")).to_be_visible()
    expect(text.locator("script, img, [onclick], [style], [onerror], a[href^=javascript]")).to_have_count(0)
    expect(text.get_by_role("link")).to_have_count(1)
    assert page.title() == "RadServe"


def test_mask_overlays_the_finding(opened: Opener, several: Gateway, tmp_path: Path) -> None:
    page = opened(several.url, model="spots")
    wanted = figure(300, 400)
    choose(page, payload("slice.npy", npy(painted(wanted))))  # browsers cannot show NPY
    result = shown(page, "slice.npy")
    expect(result.locator(".label")).to_have_text("Spot marked")
    expect(result.locator("img.picture")).to_be_visible()
    overlay = result.locator("canvas.overlay")
    assert overlay.bounding_box() == result.locator("img.picture").bounding_box()
    url: str = overlay.evaluate("canvas => canvas.toDataURL()")
    drawn = np.asarray(Pillow.open(BytesIO(base64.b64decode(url.partition(",")[2]))))
    assert agreement(drawn[..., 3] > 0, wanted) > 0.9
    result.get_by_role("button", name="Area").click()
    result.get_by_label("Opacity of the mask").fill("0")
    expect(overlay).to_have_css("opacity", "0")
    with page.expect_download() as download:
        result.get_by_role("button", name="Mask (PNG)").click()
    download.value.save_as(tmp_path / "mask.png")
    assert agreement(np.asarray(Pillow.open(tmp_path / "mask.png")) > 0, wanted) > 0.9
    expect(result.get_by_role("button", name="Show heat map")).to_have_count(0)


@pytest.mark.firefox
def test_small_input_is_shown_next_to_photograph(opened: Opener, several: Gateway) -> None:
    page = opened(several.url, model="cifar10-lenet")
    rng = np.random.default_rng(1)
    photograph = Pillow.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
    choose(page, payload("photo.jpg", saved(photograph, "JPEG")))
    result = shown(page, "photo.jpg")
    small = result.get_by_role("img", name="The image in 32 \N{MULTIPLICATION SIGN} 32 pixels")
    expect(small).to_be_visible()
    assert small.evaluate("canvas => [canvas.width, canvas.height]") == [32, 32]
    bars = result.locator(".ranking li")
    expect(bars).to_have_count(5)
    expect(bars.first).to_contain_text(result.locator(".label").text_content() or "none")
    expect(result.get_by_text("5 other labels")).to_be_visible()


def test_the_sample_of_the_chosen_model_is_analysed(opened: Opener, several: Gateway) -> None:
    page = opened(several.url, model=None)
    page.locator("[data-name=spots]").click()
    page.get_by_role("button", name="Try the sample").click()
    expect(shown(page, "spots-sample.png").locator(".label")).to_have_text("Spot marked")


def test_sample_is_analysed_although_it_is_clicked_before_it_is_loaded(opened: Opener, several: Gateway) -> None:
    page = opened(several.url, model="spots")
    requests: list[Route] = []
    page.route("**/spots/*/sample", lambda route: requests.append(route))  # noqa: PLW0108 - Playwright marks functions
    page.reload()
    page.get_by_role("button", name="Try the sample").click()
    (request,) = requests
    request.continue_()
    expect(shown(page, "spots-sample.png").locator(".label")).to_have_text("Spot marked")
