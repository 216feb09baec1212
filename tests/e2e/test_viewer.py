"""What OHIF shows of DICOM results in an Orthanc, with the files of docker/pacs."""

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.orthanc import Orthanc, running, wait_for
from benchmarks.page import CHROMIUM
from radserve.dicom import objects as dicom
from radserve.dicom.kinds import Kind
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation
from tests.radserve.dicom import examples
from tests.server import ROOT, free_ports

FILES = ROOT / ".venv-viewer"
SETTINGS = ROOT / "docker" / "pacs"
FILM, SLICE = f"{examples.ROOT}11", f"{examples.ROOT}12"  # studies
PATIENCE = 90_000  # milliseconds; without a GPU, on cores that other tests use
WEBGL = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
MAGENTA = (255, 0, 255)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (FILES / "index.html").exists() and "CI" not in os.environ, reason="needs OHIF; run scripts/setup-viewer"
    ),
]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc with a film and a slice, each with its results."""
    with running(tmp_path_factory.mktemp("viewer") / "orthanc") as orthanc:
        film = np.asarray(Pillow.open(ROOT / "archives/chest-xray-cnn/sample.png").convert("L"))
        content = examples.film(film, StudyInstanceUID=FILM, PatientName="Synthetic^Film")
        heat = np.zeros(film.shape, dtype=np.uint8)
        heat[60:90, 50:90] = 255
        store(orthanc, content, examples.explanation(content, heat, probability=0.8), ["sr", "sc"], painted(film, heat))
        mask = np.zeros((128, 128), dtype=np.bool_)
        mask[40:80, 50:90] = True
        gray = np.full((128, 128), 90, dtype=np.uint8)
        content = examples.film(gray, "MR", StudyInstanceUID=SLICE, SeriesInstanceUID=f"{SLICE}.1", InstanceNumber=2)
        store(orthanc, content, examples.segmentation(content, mask, [0.5, 0.75]), ["seg"])
        yield orthanc


def store(
    orthanc: Orthanc,
    content: bytes,
    result: Prediction | Segmentation,
    kinds: list[Kind],
    picture: bytes | None = None,
) -> None:
    orthanc.store(content)
    for item in dicom.of_image(content, result, picture, kinds).values():
        orthanc.store(dicom.encode(item))


def painted(film: NDArray[np.uint8], heat: NDArray[np.uint8]) -> bytes:
    picture = np.dstack([film] * 3)
    picture[heat > 0] = (255, 230, 0)
    return examples.png(picture)


@pytest.fixture(scope="module")
def viewer(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of nginx with the configuration of compose, but for paths and addresses."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("nginx")
    changes = {
        "/usr/share/nginx/html": str(FILES),
        "/etc/ohif/": f"{SETTINGS}/",
        "/tmp/": f"{folder}/",
        "http://orthanc:8042": orthanc.url,
        "listen 8080": f"listen 127.0.0.1:{port}",
    }
    configuration = replaced((SETTINGS / "nginx.conf").read_text(encoding="utf-8"), changes)
    (folder / "nginx.conf").write_text(configuration, encoding="utf-8")
    command = ["/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as nginx:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(url))
            yield url
        finally:
            nginx.terminate()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=WEBGL)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1400, "height": 850}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        yield page


def opened(page: Page, viewer: str, study: str) -> None:
    page.goto(f"{viewer}/viewer?StudyInstanceUIDs={study}")
    page.locator(".cornerstone-viewport-element canvas").wait_for()


def shown(page: Page) -> NDArray[np.uint8]:
    """Return the pixels of the viewport."""
    return np.asarray(Pillow.open(BytesIO(page.locator(".viewport-element").first.screenshot())).convert("RGB"))


def share(page: Page, colour: tuple[int, int, int], tolerance: int) -> float:
    difference: NDArray[Any] = np.abs(shown(page).astype(int) - colour).max(axis=2)
    return float(np.mean(difference <= tolerance))


def test_a_mask_is_drawn_over_its_slice(page: Page, viewer: str) -> None:
    opened(page, viewer, SLICE)
    assert share(page, MAGENTA, 60) == 0
    page.get_by_text("example segmentation").first.dblclick()
    # outline of a square that is a tenth of the slice
    wait_for(lambda: share(page, MAGENTA, 60) > 0.001, PATIENCE / 1000)


def test_a_picture_and_the_measurements_of_a_report_are_shown(page: Page, viewer: str) -> None:
    opened(page, viewer, FILM)
    page.get_by_text("example picture").first.dblclick()
    wait_for(lambda: share(page, (255, 230, 0), 30) > 0.01, PATIENCE / 1000)
    page.get_by_text("example report").first.dblclick()
    wait_for(lambda: "Threshold Value: 60.00 %" in measurements(page), PATIENCE / 1000)
    assert "Probability: 80.00 %" in measurements(page)


def measurements(page: Page) -> list[str]:
    """Return the texts beside the image; OHIF draws them only if the image has loaded or changes its size later."""
    page.set_viewport_size({"width": 1400 + secrets.randbelow(100), "height": 850})
    page.wait_for_timeout(500)
    return page.locator("svg tspan").all_text_contents()


def test_the_viewer_reads_the_pacs_but_does_not_write(viewer: str) -> None:
    assert httpx.get(f"{viewer}/dicom-web/studies").is_success
    assert httpx.post(f"{viewer}/dicom-web/studies", content=b"").status_code == 403
    assert httpx.delete(f"{viewer}/dicom-web/studies/{FILM}").status_code == 403


def test_the_viewer_answers_no_other_name(viewer: str) -> None:
    for path in ("/dicom-web/studies", "/"):
        assert httpx.get(viewer + path, headers={"Host": "other.example"}).status_code == 421
