"""The client and `radserve predict` against a real TorchServe, for each task."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom import dcmread

from handlers.png import OUTLINE
from radserve.client import Client
from radserve.dicom import requests
from radserve.schema.domain import Repair
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Segmentation
from tests.conftest import ROOT
from tests.handlers.images import dicom, saved
from tests.radserve.dicom import examples, readers
from tests.repack import NAME
from tests.server import Server
from tests.spots import HEIGHT, WIDTH, agreement, figure, painted

pytestmark = pytest.mark.e2e

FIGURE = figure(HEIGHT, WIDTH)
SLICE = saved(painted(FIGURE), "PNG")
FILM = ROOT / "archives" / NAME / "sample.png"


@pytest.fixture
def client(spots: Server) -> Iterator[Client]:
    with Client(spots.url) as opened:
        yield opened


def placed(number: int) -> bytes:
    """Return a slice with its position; slices are 5 mm apart."""
    return dicom(
        painted(FIGURE),
        Modality="MR",
        SeriesInstanceUID="1.2.3",
        SOPInstanceUID=f"1.2.3.{number}",
        PixelSpacing=[1, 2],
        ImagePositionPatient=[0, 0, 5 * number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )


def test_a_series_has_the_volume_of_its_masks(client: Client) -> None:
    series = client.predict_series("spots", [placed(number) for number in (3, 1, 2)])
    assert series.volume.ml == pytest.approx(3 * FIGURE.sum() * 2 * 5 / 1000)
    for result in series.predictions:
        assert isinstance(result, Segmentation)
        assert result.area.mm2 == pytest.approx(FIGURE.sum() * 2)
        np.testing.assert_array_equal(result.mask.pixels > 0, FIGURE)


def test_a_rejected_slice_keeps_its_position(client: Client) -> None:
    series = client.predict_series("spots", [SLICE, b"no image", SLICE])
    assert [type(result) for result in series.predictions] == [Segmentation, RejectedImage, Segmentation]
    assert series.volume.ml is None
    assert series.volume.reason


def test_an_overlay_has_the_size_of_the_image_and_an_outline(client: Client) -> None:
    result = client.predict("spots", SLICE)
    overlay = Pillow.open(BytesIO(client.picture("spots", SLICE, result.model.version, size=result.image)))
    outline = (np.asarray(overlay) == OUTLINE).all(axis=-1)
    assert outline.any()
    assert not (outline & ~FIGURE).any()


def test_the_command_writes_masks_and_overlays(spots: Server, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.png").write_bytes(SLICE)
    (tmp_path / "films" / "b.dcm").write_bytes(placed(1))
    arguments = ["predict", "spots", str(tmp_path / "films"), "--url", spots.url, "--json"]
    arguments += ["--masks", str(tmp_path / "out"), "--overlays", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "radserve", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    places = f"Masks in {tmp_path / 'out'}. Overlays in {tmp_path / 'out'}."
    assert (done.returncode, done.stderr) == (0, f"2 images analysed, 0 failed. {places}\n")
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["spot", "spot"]
    for name in ("a", "b"):
        np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out" / f"{name}.mask.png")) > 0, FIGURE)
        assert np.asarray(Pillow.open(tmp_path / "out" / f"{name}.overlay.png")).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("repair", [None, "rotate-90", "rotate-270"])
def test_a_dicom_mask_has_the_pixels_of_the_file_also_if_the_image_is_turned(
    client: Client, repair: Repair | None
) -> None:
    marked = figure(90, 61)
    content = examples.film(painted(marked), "MR")
    result = client.predict("spots", content, repair=repair)
    objects = requests.complete(client, content, result, repair=repair)
    assert set(objects) == {"sr", "seg", "sc"}
    assert agreement(objects["seg"].pixel_array > 0, marked) > 0.9


def test_the_command_writes_dicom_objects_of_dicom_images(spots: Server, server: Server, tmp_path: Path) -> None:
    film = np.asarray(Pillow.open(FILM).convert("L"))
    (tmp_path / "film.dcm").write_bytes(
        examples.film(film, ViewPosition="PA", PresentationIntentType="FOR PRESENTATION")
    )
    (tmp_path / "slice.dcm").write_bytes(examples.film(painted(FIGURE), "MR"))
    (tmp_path / "other.png").write_bytes(SLICE)
    out = tmp_path / "out"
    done = command("predict", NAME, tmp_path / "film.dcm", "--url", server.url, "--dicom-out", out)
    assert done.returncode == 0, done.stderr
    files = (tmp_path / "slice.dcm", tmp_path / "other.png")
    done = command("predict", "spots", *files, "--url", spots.url, "--json", "--dicom-out", out)
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["spot", "spot"]
    assert "other.png: not written as DICOM. The image is png, not DICOM" in done.stderr
    written = sorted(out.iterdir())
    assert [path.name for path in written] == [
        *("film.sc.dcm", "film.seg.dcm", "film.sr.dcm"),
        *("slice.sc.dcm", "slice.seg.dcm", "slice.sr.dcm"),
    ]
    for path in written:
        # dciodvfy does not know the private scheme of the label "spot".
        assert [text for text in readers.problems(dcmread(path), tmp_path) if "99RADSERVE" not in text] == []


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    line = [sys.executable, "-m", "radserve", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)


def test_an_explanation_is_the_prediction_and_a_heat_map(server: Server) -> None:
    with Client(server.url) as client:
        alone = client.predict(NAME, FILM)
        explanation = client.explain(NAME, FILM)
        overlay = client.picture(NAME, FILM, of="explanations", size=alone.image)
    assert isinstance(alone, Prediction)
    assert explanation.prediction.probability == pytest.approx(alone.probability, abs=1e-5)
    assert explanation.heat.pixels.shape == (alone.image.height, alone.image.width)
    assert Pillow.open(BytesIO(overlay)).size == (alone.image.width, alone.image.height)
