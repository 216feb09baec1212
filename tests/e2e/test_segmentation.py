"""Masks through a real TorchServe: JSON, pictures, zips, and the neighbours in a batch."""

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from handlers.png import OUTLINE
from tests.handlers.dicom.test_frames import multi_frame
from tests.handlers.formats.test_zip import zipped
from tests.handlers.images import dicom, saved
from tests.server import Server, running
from tests.spots import HEIGHT, WIDTH, Flags, agreement, figure, packed, painted

pytestmark = pytest.mark.e2e

PATH = "/predictions/spots"
WANTED = figure(300, 400)
DATA = saved(painted(WANTED), "PNG")


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("spots")
    packed(folder / "store", folder)
    with running(folder / "store", folder / "log") as started:
        yield started


@pytest.fixture
def client(spots: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=spots.url, timeout=60) as http_client:
        yield http_client


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Pillow.open(BytesIO(data)))


def mask(document: dict[str, Any]) -> Flags:
    result: Flags = pixels(base64.b64decode(document["mask"]["data"])) > 0
    return result


def test_json_holds_the_mask_in_the_geometry_of_the_image(client: httpx.Client) -> None:
    response = client.post(PATH, content=DATA)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    document = response.json()
    assert document["label"] == "spot"
    assert agreement(mask(document), WANTED) > 0.9


def test_pictures_are_what_json_says(client: httpx.Client) -> None:
    wanted = mask(client.post(PATH, content=DATA).json())
    for accept in ("image/png", "image/png;view=mask"):
        response = client.post(PATH, content=DATA, headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
        np.testing.assert_array_equal(pixels(response.content), wanted * np.uint8(255))
    overlay = client.post(PATH, content=DATA, headers={"Accept": "image/png;view=overlay"})
    outline = (pixels(overlay.content) == OUTLINE).all(axis=-1)
    assert outline.any()
    assert not (outline & ~wanted).any()


def test_an_unknown_view_is_refused(client: httpx.Client) -> None:
    response = client.post(PATH, content=DATA, headers={"Accept": "image/png;view=heat"})
    assert (response.status_code, response.headers["content-type"]) == (406, "application/problem+json")


def test_a_zip_of_slices_gets_a_mask_each_and_a_volume(client: httpx.Client) -> None:
    wanted = figure(HEIGHT, WIDTH)
    files = {
        f"{number}.dcm": dicom(
            painted(wanted),
            Modality="MR",
            SeriesInstanceUID="1.2.3",
            SOPInstanceUID=f"1.2.3.{number}",
            PixelSpacing=[1, 1],
            ImagePositionPatient=[0, 0, 5 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
        for number in (10, 9, 11)
    }
    response = client.post(PATH, content=zipped(files), headers={"Content-Type": "application/zip"})
    assert response.status_code == 200, response.text
    document = response.json()
    assert [entry["name"] for entry in document["predictions"]] == ["9.dcm", "10.dcm", "11.dcm"]
    for entry in document["predictions"]:
        np.testing.assert_array_equal(mask(entry), wanted)
    assert document["volume"]["ml"] == pytest.approx(3 * wanted.sum() * 5 / 1000)


def test_frames_get_the_masks_and_the_volume_of_a_zip_of_their_slices(client: httpx.Client) -> None:
    frames = [painted(np.roll(figure(HEIGHT, WIDTH), 3 * number, 1)) for number in range(3)]
    plane: dict[str, Any] = {"PixelSpacing": [1, 1], "ImageOrientationPatient": [0.8, 0.6, 0, 0, 0, -1]}
    positions = [{"ImagePositionPatient": [-3 * number, 4 * number, 0]} for number in range(3)]
    series: dict[str, Any] = {"Modality": "MR", "SeriesInstanceUID": "1.2.3"}
    slices = {
        f"{number}.dcm": dicom(pixels, SOPInstanceUID=f"1.2.3.{number}", **series | plane | positions[number])
        for number, pixels in enumerate(frames)
    }
    shared = {
        "PixelMeasuresSequence": {"PixelSpacing": plane["PixelSpacing"]},
        "PlaneOrientationSequence": {"ImageOrientationPatient": plane["ImageOrientationPatient"]},
    }
    each = [{"PlanePositionSequence": position} for position in positions]
    expected = client.post(PATH, content=zipped(slices)).json()
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        content = multi_frame(frames, syntax, shared, each, **series)
        response = client.post(PATH, content=content)
        assert response.status_code == 200, response.text
        document = response.json()
        assert document["volume"] == expected["volume"]
        assert document["volume"]["ml"] > 0
        for number, (entry, alone) in enumerate(zip(document["predictions"], expected["predictions"], strict=True), 1):
            image = alone["image"] | {"frame": number, "sha256": hashlib.sha256(content).hexdigest()}
            assert entry | {"name": alone["name"]} == alone | {"image": image}
        picture = client.post(PATH, content=content, headers={"Accept": "image/png"})
        assert picture.status_code == 406


def test_a_large_zip_is_answered_whole(client: httpx.Client) -> None:
    files = {f"slice_{number}.png": DATA for number in range(160)}
    document = client.post(PATH, content=zipped(files)).json()
    assert len(document["predictions"]) == document["volume"]["positive_slices"] == 160


def test_there_are_no_explanations(client: httpx.Client) -> None:
    response = client.post("/explanations/spots", content=DATA)
    assert response.status_code == 404
    assert "mask" in response.json()["detail"]


def test_requests_of_every_kind_at_once_get_each_its_own_answer(client: httpx.Client) -> None:
    kinds = [
        ("/predictions/spots", {}, DATA, 200),
        ("/predictions/spots", {"Accept": "image/png"}, DATA, 200),
        ("/predictions/spots", {}, b"garbage", 415),
        ("/explanations/spots", {}, DATA, 404),
        ("/predictions/spots", {"Accept": "text/html"}, DATA, 406),
        ("/predictions/spots", {}, zipped({"1.png": DATA}), 200),
    ] * 6
    with ThreadPoolExecutor(12) as pool:
        reply = list(pool.map(lambda kind: client.post(kind[0], headers=kind[1], content=kind[2]), kinds))
    assert [response.status_code for response in reply] == [kind[3] for kind in kinds]
    for (_, headers, _, status), response in zip(kinds, reply, strict=True):
        wanted = "application/problem+json" if status != 200 else "image/png" if headers else "application/json"
        assert response.headers["content-type"] == wanted


def test_bare_samples_are_refused_where_the_recipe_does_not_take_them(client: httpx.Client) -> None:
    response = client.post(PATH, json={"data": base64.b64encode(bytes(3072)).decode()})
    assert response.status_code == 400
    assert "no raw samples" in response.json()["detail"]
