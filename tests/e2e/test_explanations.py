"""Explanations as clients get them: JSON and pictures, each for its own image."""

import base64
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


def opened(data: bytes) -> Pillow.Image:
    return Pillow.open(BytesIO(data))


def test_json_is_the_answer_with_a_map_in_the_images_own_size(client: httpx.Client) -> None:
    wanted = client.post(f"/predictions/{NAME}", content=FILM).json()
    for path in (f"/explanations/{NAME}", f"/explanations/{NAME}/{wanted['model']['version']}"):
        response = client.post(path, content=FILM)
        assert response.headers["content-type"] == "application/json"
        document = response.json()
        explanation = document.pop("explanation")
        assert document == wanted
        assert (explanation["method"], explanation["label"]) == ("grad-cam", wanted["label"])
        heat = opened(base64.b64decode(explanation["data"]))
        assert heat.mode == "L"
        assert heat.size == opened(FILM).size == (explanation["width"], explanation["height"])
        assert (np.asarray(heat).max() == 0) == explanation["empty"]


def test_pictures_are_the_overlay_and_the_map(client: httpx.Client) -> None:
    document = client.post(f"/explanations/{NAME}", content=FILM).json()
    pictures = {}
    for accept in ("image/png", "image/png;view=overlay", "image/png;view=map"):
        response = client.post(f"/explanations/{NAME}", content=FILM, headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
        pictures[accept] = response.content
    default, overlay, heat = pictures.values()
    assert default == overlay
    assert (opened(overlay).mode, opened(overlay).size) == ("RGB", opened(FILM).size)
    assert heat == base64.b64decode(document["explanation"]["data"])


def test_of_several_images_each_has_its_own_map_or_its_own_problem(client: httpx.Client) -> None:
    mirrored = BytesIO()
    opened(FILM).transpose(Pillow.Transpose.FLIP_LEFT_RIGHT).crop((0, 0, 200, 190)).save(mirrored, "PNG")
    bodies = [FILM, b"AAAA", mirrored.getvalue()]
    request = {"instances": [{"b64": base64.b64encode(data).decode()} for data in bodies]}
    first, broken, last = client.post(f"/explanations/{NAME}", json=request).json()["predictions"]
    for entry, data in ((first, FILM), (last, mirrored.getvalue())):
        alone = client.post(f"/explanations/{NAME}", content=data).json()
        assert entry["explanation"] == alone["explanation"]
        assert entry["probability"] == pytest.approx(alone["probability"], abs=1e-5)
    assert opened(base64.b64decode(last["explanation"]["data"])).size == (200, 190)
    assert broken["status"] == 415


def test_what_cannot_be_explained_is_refused_as_a_prediction_is(client: httpx.Client) -> None:
    response = client.post(f"/explanations/{NAME}", content=b"no film", headers={"Accept": "image/png"})
    assert response.status_code == 415
    assert response.headers["content-type"] == "application/problem+json"
    assert "label" not in response.json()
    assert client.post(f"/explanations/{NAME}", content=FILM, headers={"Accept": "text/html"}).status_code == 406
