"""Images unlike the training images, and their repair, through a real server in each mode."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from radserve.client import Client
from radserve.errors import RejectedRequestError
from radserve.schema.domain import Repair
from radserve.schema.problem import RejectedImage
from tests import command_line, detectors
from tests.detectors import FILM, INVERTED, NORMAL, OTHER, TURNED, UNUSUAL
from tests.handlers.formats.test_zip import zipped
from tests.repack import NAME
from tests.server import ROOT, Server, running

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"
REPAIRS: dict[str, tuple[bytes, Repair]] = {
    "rotated_90": (TURNED["rotated_90"], "rotate-270"),
    "rotated_180": (TURNED["rotated_180"], "rotate-180"),
    "rotated_270": (TURNED["rotated_270"], "rotate-90"),
    "inverted": (INVERTED, "invert"),
}


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the chest model with a detector that knows one film."""
    from radserve.build import builder

    folder = tmp_path_factory.mktemp("knowing")
    builder.build(detectors.source(folder), folder / "store")
    return folder / "store"


@pytest.fixture(scope="module")
def strict(knowing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(knowing, tmp_path_factory.mktemp("strict") / "log", "--domain", "strict") as started:
        yield started


@pytest.fixture(scope="module", params=["warn", "off"])
def lenient(
    request: pytest.FixtureRequest, knowing: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Server]]:
    """Run a server that rejects no image for its difference from the training images."""
    with running(knowing, tmp_path_factory.mktemp("lenient") / "log", "--domain", request.param) as started:
        yield request.param, started


def ask(server: Server, content: bytes, query: str = "", path: str = PATH, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}{query}", content=content, headers=headers, timeout=60)


def domain(response: httpx.Response) -> dict[str, Any]:
    document: dict[str, Any] = response.json()["domain"]
    return document


def test_a_film_like_the_training_images_is_normal(strict: Server) -> None:
    response = ask(strict, NORMAL)
    assert response.status_code == 200
    assert (domain(response)["mode"], domain(response)["status"]) == ("strict", "normal")
    assert domain(response)["reason"] is None
    assert "warning" not in response.json()


def test_an_unusual_film_has_a_prediction_and_its_rank(strict: Server) -> None:
    response = ask(strict, UNUSUAL)
    assert response.status_code == 200
    assert domain(response)["status"] == "unusual"
    assert 50 < domain(response)["percentile"] <= 100


@pytest.mark.parametrize("reason", REPAIRS)
@pytest.mark.parametrize("kind", ["predictions", "explanations"])
def test_an_unlike_film_is_rejected_with_the_reason_and_the_repair(strict: Server, reason: str, kind: str) -> None:
    content, repair = REPAIRS[reason]
    path = PATH.replace("predictions", kind)
    response = ask(strict, content, path=path)
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["title"]) == (422, "Unlike the training images")
    assert (domain(response)["status"], domain(response)["reason"]) == ("unlike", reason)
    assert f"repair={repair}" in response.json()["detail"]
    repaired = ask(strict, content, f"?repair={repair}", path).json()
    upright = ask(strict, NORMAL, path=path).json()
    assert (repaired["repair"], repaired["domain"]["status"]) == (repair, "normal")
    for key in ("label", "probabilities", "explanation"):
        assert repaired.get(key) == upright.get(key)
    assert [repaired["image"][key] for key in ("width", "height")] == [280, 196]


def test_another_image_is_rejected_and_no_repair_helps(strict: Server) -> None:
    for query in ("", "?repair=rotate-180"):
        response = ask(strict, OTHER, query)
        assert response.status_code == 422
        assert domain(response)["reason"] == "other_image"
        assert "repair=" not in response.json()["detail"]


def test_the_picture_of_a_repaired_film_is_turned_without_loss(strict: Server) -> None:
    content, repair = REPAIRS["rotated_90"]
    picture = ask(strict, content, f"?repair={repair}", Accept="image/png;view=image")
    np.testing.assert_array_equal(np.asarray(Pillow.open(BytesIO(picture.content)).convert("L")), FILM)
    assert ask(strict, content, Accept="image/png;view=image").status_code == 422


def test_an_unlike_image_of_a_zip_is_rejected_alone_and_a_repair_is_for_all(strict: Server) -> None:
    turned, repair = REPAIRS["rotated_180"]
    archive = zipped({"1.png": turned, "2.png": NORMAL})
    first, second = ask(strict, archive).json()["predictions"]
    assert (first["status"], first["domain"]["reason"]) == (422, "rotated_180")
    assert second["domain"]["status"] == "normal"
    first, second = ask(strict, archive, f"?repair={repair}").json()["predictions"]
    assert (first["repair"], first["domain"]["status"]) == (repair, "normal")
    assert (second["status"], second["domain"]["reason"]) == (422, "rotated_180")  # it was upright


def test_a_server_without_strictness_analyses_an_unlike_film(lenient: tuple[str, Server]) -> None:
    mode, server = lenient
    response = ask(server, TURNED["rotated_90"])
    assert (response.status_code, domain(response)["mode"]) == (200, mode)
    if mode == "off":
        assert domain(response) == {"mode": "off"}
        assert "warning" not in response.json()
    else:
        assert (domain(response)["status"], domain(response)["reason"]) == ("unlike", "rotated_90")
        assert "unlike the images that this model was trained on" in response.json()["warning"]


def test_the_start_message_and_the_catalog_name_the_mode(lenient: tuple[str, Server]) -> None:
    mode, server = lenient
    assert server.process.stdout is not None
    lines = [server.process.stdout.readline() for _ in range(3)]
    assert lines[2].endswith(f"(--domain {mode})\n")
    (model,) = httpx.get(f"{server.url}/catalog").json()["models"]
    assert [version["domain"] for version in model["versions"]] == [mode]


def test_client_and_command_line_show_and_repair(strict: Server, tmp_path: Path) -> None:
    content, repair = REPAIRS["rotated_270"]
    with Client(strict.url) as client:
        unusual = client.predict(NAME, UNUSUAL).domain
        assert unusual is not None
        assert unusual.is_doubtful
        with pytest.raises(RejectedRequestError) as raised:
            client.predict(NAME, content)
        assert raised.value.extensions["domain"]["reason"] == "rotated_270"
        assert client.explain(NAME, content, repair=repair).repair == repair
        rejected, accepted = client.predict_many(NAME, [content, NORMAL])
    assert isinstance(rejected, RejectedImage)
    assert rejected.domain is not None
    assert not isinstance(accepted, RejectedImage)
    film = tmp_path / "film.png"
    film.write_bytes(content)
    refused = command_line.run("predict", NAME, film, "--url", strict.url)
    assert refused.returncode == 1
    done = command_line.run("predict", NAME, film, "--url", strict.url, "--repair", repair)
    assert done.returncode == 0
    assert repair in done.stdout


def test_the_sample_is_never_rejected(strict: Server) -> None:
    sample = (ROOT / "archives" / NAME / "sample.png").read_bytes()
    for query, status in (("", "normal"), ("?repair=rotate-90", "unlike")):
        response = ask(strict, sample, query)
        assert (response.status_code, domain(response)["status"]) == (200, status)
        assert "warning" not in response.json()
