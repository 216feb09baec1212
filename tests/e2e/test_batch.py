"""Several images in one batch: a fault of one does not affect the others."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import pytest
from PIL import Image as Pillow

from tests.conftest import ROOT
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

FILM = Pillow.open(ROOT / "archives" / NAME / "sample.png").convert("L")
CORRUPT = (ROOT / "archives" / NAME / "sample.png").read_bytes()[:2000]


def variant(index: int) -> bytes:
    """Return a film of its own size and brightness."""
    out = BytesIO()
    picture = FILM.resize((200 + 17 * index, 150 + 11 * index)).point(lambda value: value * (60 + index) // 100)
    picture.save(out, "JPEG" if index % 2 else "PNG")
    return out.getvalue()


def test_a_corrupt_film_among_31_good_ones_fails_alone(server: Server) -> None:
    good = [variant(index) for index in range(31)]
    with httpx.Client(timeout=60) as client:
        url = f"{server.url}/predictions/{NAME}"
        alone = [client.post(url, content=data).json() for data in good]
        for place in (0, 13, 31):  # several rounds: the corrupt one meets other neighbours
            bodies = [*good[:place], CORRUPT, *good[place:]]
            with ThreadPoolExecutor(32) as pool:
                responses = list(pool.map(lambda data: client.post(url, content=data), bodies))
            refused = responses.pop(place)
            assert refused.status_code == 400
            assert [response.status_code for response in responses] == [200] * 31
            for response, wanted in zip(responses, alone, strict=True):
                answer = response.json()
                assert answer["image"] == wanted["image"]
                assert answer["label"] == wanted["label"]
                for label, value in wanted["probabilities"].items():
                    assert answer["probabilities"][label] == pytest.approx(value, abs=1e-5)


def test_explanations_and_predictions_in_one_batch_stay_apart(server: Server) -> None:
    paths = ["predictions", "explanations"] * 16
    data = variant(0)
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda path: client.post(f"{server.url}/{path}/{NAME}", content=data), paths))
    assert [response.status_code for response in responses] == [200] * 32
    assert ["explanation" in response.json() for response in responses] == [False, True] * 16
