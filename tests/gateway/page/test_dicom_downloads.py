"""Results of DICOM files are downloaded as DICOM objects."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.app import assemble
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.recorder import create
from gateway.settings import Settings
from radserve.schema.catalog import Catalog
from tests.gateway.api.test_dicom import FILM, MASK, PICTURE, classifier, document
from tests.gateway.application import services, serving
from tests.gateway.fake_backend import FakeBackend, json_response
from tests.gateway.page.conftest import Opener
from tests.gateway.page.files import choose, payload
from tests.gateway.page.scripted import IMAGE, catalog, script
from tests.gateway.page.test_accessibility import faults
from tests.gateway.page.test_analyse import shown
from tests.gateway.page.test_restart import PROFILE
from tests.gateway.page.test_stored_results import UNSENT
from tests.gateways import Gateway
from tests.radserve.dicom import examples

pytestmark = pytest.mark.e2e

BUTTON = "DICOM (SR, SEG, SC)"
SLICES = [
    examples.image(InstanceNumber=number, ImagePositionPatient=[0, 0, 4 * number], SeriesDescription="x")
    for number in (1, 2)
]


def models() -> dict[str, Any]:
    """Return a catalog of the archives that the examples are from."""
    document = catalog()
    for model in document["models"]:
        model["versions"][0]["sha256"] = examples.SHA256
    return document


class Backend(FakeBackend):
    async def catalog(self) -> Catalog:
        return Catalog.model_validate(models())


def respond(request: ModelRequest) -> ModelResponse:
    """Return a heat map and pictures of a film, and the masks of slices."""
    if request.accept.startswith("image/png"):
        return PICTURE
    if request.model == "chest":
        return classifier()(request)
    results = [document(examples.segmentation(content, MASK, [0.5, 0.75]), "slices") for content in SLICES]
    volume = {"slices": 2, "positive_slices": 2, "pixels": 2 * int(MASK.sum()), "ml": 1.0}
    return json_response({"predictions": results, "volume": volume})


def downloaded(page: Page, press: Callable[[], None], folder: Path) -> tuple[str, dict[str, Dataset]]:
    """Return the name of a zip file and the objects in it."""
    with page.expect_download() as download:
        press()
    download.value.save_as(folder / "objects.zip")
    with zipfile.ZipFile(folder / "objects.zip") as file:
        return download.value.suggested_filename, {name: dcmread(BytesIO(file.read(name))) for name in file.namelist()}


def test_films_and_series_are_downloaded_as_dicom_now_and_from_the_history(opened: Opener, tmp_path: Path) -> None:
    settings = Settings.read(history=f"sqlite:{tmp_path / 'history.sqlite3'}", images=tmp_path / "images")
    app = assemble(replace(services(Backend(respond), settings), recorder=create(settings)))
    with serving(app) as address:
        page = opened(f"http://{address}", model="chest", bypass_csp=True)

        def press(card: Locator) -> Callable[[], None]:
            return card.get_by_role("button", name=BUTTON).click

        choose(page, payload("film.dcm", FILM))
        card = shown(page, "film.dcm")
        expect(card).to_contain_text("DICOM takes a new analysis, which is added to the history.")
        name, objects = downloaded(page, press(card), tmp_path)
        assert name == "film.chest.dicom.zip"
        assert list(objects) == [f"film.chest.{kind}.dcm" for kind in ("sr", "seg", "sc")]
        assert [item.Modality for item in objects.values()] == ["SR", "SEG", "OT"]
        expect(page.locator("#announcement")).to_have_text("film.dcm: DICOM result downloaded.")
        assert faults(page) == []

        page.get_by_role("button", name="Change", exact=True).click()
        page.locator("[data-name=slices]").click()
        choose(page, *(payload(f"slice {index}.dcm", content) for index, content in enumerate(SLICES)))
        series = page.locator(".series")
        expect(series).to_be_visible()
        _, objects = downloaded(page, press(series), tmp_path)
        assert [item.Modality for item in objects.values()] == ["SR", "SEG", "OT"]
        assert [item.get("NumberOfFrames") for item in objects.values()] == [None, 2, None]
        expect(series.locator(".download")).to_contain_text(
            "Downloaded: SR, SEG, SC. SC is a picture of the slice with the largest mask."
        )

        page.get_by_role("link", name="History").click()
        page.reload()  # the page forgets the files
        page.locator(".group-row").first.get_by_role("link", name="Open").click()
        name, objects = downloaded(page, press(page.locator("#opened .series")), tmp_path)
        assert [item.Modality for item in objects.values()] == ["SR", "SEG", "OT"]
        assert name.endswith(".slices.dicom.zip")


def test_a_file_that_is_added_to_be_seen_is_not_sent_and_another_site_profile_offers_no_dicom(
    opened: Opener, tmp_path: Path
) -> None:
    settings = Settings.read(history=f"sqlite:{tmp_path / 'history.sqlite3'}")
    app = assemble(replace(services(Backend(respond), settings), recorder=create(settings)))
    with serving(app) as address:
        page = opened(f"http://{address}", model="slices")
        choose(page, *(payload(f"slice {index}.dcm", content) for index, content in enumerate(SLICES)))
        expect(page.locator(".series")).to_be_visible()
        page.get_by_role("button", name="Change", exact=True).click()
        page.locator("[data-name=chest]").click()
        choose(page, payload("film.dcm", FILM))
        expect(shown(page, "film.dcm")).to_be_visible()
        page.get_by_role("link", name="History").click()
        page.reload()  # the page forgets the files
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        page.locator(".group-row").get_by_role("link", name="Open").click()
        page.set_input_files("#join-file", [payload(f"{index}.dcm", content) for index, content in enumerate(SLICES)])
        expect(page.locator("#opened canvas.picture")).to_be_visible()
        expect(page.locator("#opened .picture-caption")).to_have_text("Drawn by this page from the file.")
        expect(page.get_by_role("button", name=BUTTON)).to_be_visible()
        page.go_back()
        page.locator("#history-rows > tr:not(.group-row, .slice-row)").get_by_role("link", name="Open").click()
        film = page.url
        page.set_input_files("#join-file", [payload("film.dcm", FILM)])
        expect(page.locator("#opened canvas.picture")).to_be_visible()
        expect(page.get_by_role("button", name=BUTTON)).to_be_visible()
        assert sent == []
        with page.expect_download():
            page.get_by_role("button", name=BUTTON).click()
        assert not page.evaluate(UNSENT, sha256(FILM).hexdigest())
        page.go_back()
        page.locator(".group-row").get_by_role("link", name="Open").click()
        expect(page.locator("#opened .picture-caption")).to_have_text("Drawn by this page from the file.")
        with page.expect_download():
            page.get_by_role("button", name=BUTTON).click()
        expect(page.locator("#opened img.picture")).to_be_visible()  # as the server shows it
        assert not page.evaluate(UNSENT, sha256(SLICES[0]).hexdigest())

        page.route("**/api/models", lambda route: route.fulfill(json=catalog(sha256=examples.SHA256, profile=PROFILE)))
        page.goto(film)
        page.reload()
        page.set_input_files("#join-file", [payload("film.dcm", FILM)])
        expect(page.locator("#opened canvas.picture")).to_be_visible()
        expect(page.get_by_role("button", name=BUTTON)).to_have_count(0)


def test_other_formats_have_no_button_and_failures_are_explained(opened: Opener, static_gateway: Gateway) -> None:
    def answer(route: Any) -> None:
        accept = route.request.headers["accept"]
        if accept.startswith("multipart/related"):
            detail = "This gateway has no DICOM results; install radserve[dicom], or request JSON."
            route.fulfill(status=406, json={"status": 406, "title": "Not acceptable", "detail": detail})
        elif accept.startswith("image/png"):
            route.fulfill(content_type="image/png", body=PICTURE.body)
        else:
            route.fulfill(json=sent.pop(0))

    png = document(examples.classification(FILM, (40, 56)))
    sent = [png, document(examples.classification(FILM, (40, 56)))]
    png["image"] |= {"format": "png", "width": 20, "height": 10, "sha256": sha256(IMAGE).hexdigest()}
    page = opened(
        static_gateway.url,
        model="chest",
        prepare=lambda page: script(page, models(), answer=answer),
    )
    choose(page, payload("film.png", IMAGE))
    card = shown(page, "film.png")
    expect(card.get_by_role("button", name="Result (JSON)")).to_be_visible()
    expect(card.get_by_role("button", name=BUTTON)).to_have_count(0)
    choose(page, payload("film.dcm", FILM))
    act = shown(page, "film.dcm").get_by_role("button", name=BUTTON)
    act.click()
    rejection = page.locator(".rejection")
    expect(rejection).to_contain_text("No DICOM result is available.")
    expect(rejection).to_contain_text("install radserve[dicom]")
    expect(act).to_be_enabled()


OBJECTS = """async (bytes) => {
    const { objectsOf } = await import("/js/dicom_downloads.js");
    try {
        return objectsOf(Uint8Array.from(bytes).buffer).map((object) => [...object]);
    } catch (error) {
        return error.detail;
    }
}"""


def test_a_multipart_body_is_split_at_its_boundary_only(modules: Page) -> None:
    objects = [bytes(128) + b"DICM\r\n--" + bytes(range(256)), bytes(128) + b"DICM-other-\r\n\r\n"]
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"--b" + head + objects[0] + b"\r\n--b" + head + objects[1] + b"\r\n--b--\r\n"
    assert modules.evaluate(OBJECTS, list(body)) == [list(item) for item in objects]
    for damaged in (b"", b"{}", body.replace(b"DICM", b"MCID"), body[:20]):
        assert modules.evaluate(OBJECTS, list(damaged)) == "Reason: it holds no DICOM objects."
