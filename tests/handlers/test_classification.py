"""The classification handler: explanations in every representation, batched with predictions."""

import base64
import json
import os
import shutil
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as Pillow

from handlers.classification import Classification
from handlers.errors import DeviceLostError, ProgramError
from handlers.program import Program
from tests.handlers.batch import context
from tests.handlers.images import dicom, saved
from tests.handlers.test_pipeline import film

EXPLAIN = {"explain": "True"}
VIEW = "image/png;view=image"
BRIGHT = film(low=120)

RawSamples = tuple[int, str, bytes]


@pytest.fixture
def classifier(brightness_archive: Path) -> Classification:
    handler = Classification()
    handler.initialize(context(brightness_archive, []))
    return handler


def ask(classifier: Classification, *requests: tuple[Any, dict[str, Any]]) -> list[RawSamples]:
    """Send one batch; return status, media type and body of each response."""
    around = context(Path(), [dict(headers) for _, headers in requests])
    bodies = classifier.handle([{"body": body} for body, _ in requests], around)
    return [
        (around.get_response_status(index)[0], around.get_response_content_type(index), body)
        for index, body in enumerate(bodies)
    ]


def opened(data: bytes) -> Pillow.Image:
    return Pillow.open(BytesIO(data))


def pixels(data: bytes) -> NDArray[np.int64]:
    return np.asarray(opened(data)).astype(int)


def test_a_network_without_a_feature_map_has_no_explanation(brightness_archive: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(brightness_archive, tmp_path / "archive"))
    path = folder / "archive.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"explanation": {"method": "none"}}))
    handler = Classification()
    handler.initialize(context(folder, []))
    (status, _, body), (predicted, _, _) = ask(handler, (BRIGHT, EXPLAIN), (BRIGHT, {}))
    assert (status, predicted) == (404, 200)
    assert "has no explanations" in json.loads(body)["detail"]


def test_an_explanation_is_the_prediction_and_a_map_for_its_label(classifier: Classification) -> None:
    (status, media, body), (_, _, plain) = ask(classifier, (BRIGHT, EXPLAIN), (BRIGHT, {}))
    assert (status, media) == (200, "application/json")
    document = json.loads(body)
    explanation = document.pop("explanation")
    assert document == json.loads(plain)
    heat = opened(base64.b64decode(explanation.pop("data")))
    assert explanation == {
        "method": "grad-cam",
        "label": document["label"],
        "empty": False,
        "encoding": "png",
        "width": 96,
        "height": 64,
    }
    assert (heat.mode, heat.size) == ("L", (96, 64))


def test_the_map_follows_the_brightness_that_the_model_uses(classifier: Classification) -> None:
    ((_, _, body),) = ask(classifier, (BRIGHT, EXPLAIN))  # brighter from left to right
    document = json.loads(body)
    assert document["label"] == "bright"
    columns = pixels(base64.b64decode(document["explanation"]["data"])).mean(axis=0)
    assert (np.diff(columns) >= 0).all()
    assert columns[-1] > columns[0] + 100


def test_pictures_are_the_overlay_in_colour_and_the_map_in_gray(classifier: Classification) -> None:
    forms = ["image/png", "image/png;view=overlay", "image/png;view=map", "application/json"]
    answers = ask(classifier, *((BRIGHT, EXPLAIN | {"accept": form}) for form in forms))
    assert [(status, media) for status, media, _ in answers[:3]] == [(200, "image/png")] * 3
    default, overlay, plain, document = (body for _, _, body in answers)
    assert default == overlay
    assert opened(overlay).mode == "RGB"
    assert opened(overlay).size == (96, 64)
    heat = pixels(base64.b64decode(json.loads(document)["explanation"]["data"]))
    np.testing.assert_array_equal(pixels(plain), heat)
    change = np.abs(pixels(overlay) - pixels(BRIGHT)[..., None]).max(axis=-1)
    assert not change[heat == 0].any()
    assert change[heat == heat.max()].min() > 50


def test_an_unknown_view_is_406_and_lists_the_available_ones(classifier: Classification) -> None:
    ((status, _, body),) = ask(classifier, (BRIGHT, EXPLAIN | {"accept": "image/png;view=mask"}))
    assert status == 406
    assert "view=overlay" in json.loads(body)["detail"]
    assert "view=map" in json.loads(body)["detail"]


@pytest.mark.parametrize("headers", [{}, EXPLAIN])
def test_the_image_view_is_the_decoded_image(classifier: Classification, headers: dict[str, str]) -> None:
    gray = np.tile(np.linspace(0, 4095, 96).astype(np.uint16), (64, 1))
    window: dict[str, Any] = {"WindowCenter": 1024, "WindowWidth": 2048, "PhotometricInterpretation": "MONOCHROME1"}
    ((status, media, body),) = ask(classifier, (dicom(gray, **window), headers | {"accept": VIEW}))
    assert (status, media) == (200, "image/png")
    shown = opened(body)
    assert (shown.mode, shown.size) == ("L", (96, 64))
    levels = pixels(body)
    assert (levels[:, 0] == 255).all()  # inverted: MONOCHROME1
    assert (levels[:, 48:] == 0).all()  # outside of the window


def test_a_rotated_photograph_is_shown_upright(classifier: Classification) -> None:
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ((status, _, body),) = ask(classifier, (saved(opened(BRIGHT), "JPEG", exif=exif), {"accept": VIEW}))
    assert (status, opened(body).size) == (200, opened(BRIGHT).size[::-1])


def test_a_prediction_has_only_the_image_view_and_only_by_name(classifier: Classification) -> None:
    ((status, _, body),) = ask(classifier, (BRIGHT, {"accept": "image/png"}))
    assert status == 406
    assert VIEW in json.loads(body)["detail"]


def test_a_rejected_image_has_no_picture(classifier: Classification) -> None:
    ((status, media, _),) = ask(classifier, (b"garbage", {"accept": VIEW}))
    assert (status, media) == (415, "application/problem+json")


def test_several_images_get_an_explanation_each_in_their_own_size(classifier: Classification) -> None:
    films = [film(96, 64, low=120), film(40, 200, low=120), b"AAAA"]
    instances = {"instances": [{"b64": base64.b64encode(data).decode()} for data in films]}
    ((status, _, body),) = ask(classifier, (instances, EXPLAIN))
    assert status == 200
    first, second, broken = json.loads(body)["predictions"]
    for entry in (first, second):
        size = (entry["image"]["width"], entry["image"]["height"])
        assert opened(base64.b64decode(entry["explanation"]["data"])).size == size
    assert broken["status"] == 415
    assert "explanation" not in broken


def test_a_failed_explanation_does_not_affect_other_requests(
    classifier: Classification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for error, expected in (
        (RuntimeError("secret"), 500),
        (RuntimeError("CUDA out of memory"), 503),
        (KeyError("a"), 500),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(Program, "gradients", fail)
        answers = ask(classifier, (BRIGHT, {}), (BRIGHT, EXPLAIN), (BRIGHT, {}))
        assert [status for status, _, _ in answers] == [200, expected, 200]
        assert answers[1][1] == "application/problem+json"
        assert b"secret" not in answers[1][2]
        assert b"label" not in answers[1][2]


def test_a_device_lost_during_an_explanation_ends_the_worker(
    classifier: Classification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[object] = []

    class Timer:
        def __init__(self, _: float, function: object, args: object) -> None:
            self.leaving = function is os._exit

        def start(self) -> None:
            left.append(self.leaving)

    def lost(*_: object) -> None:
        raise DeviceLostError("gone")

    monkeypatch.setattr(Program, "gradients", lost)
    monkeypatch.setattr(threading, "Timer", Timer)
    answers = ask(classifier, (BRIGHT, {}), (BRIGHT, EXPLAIN))
    assert [status for status, _, _ in answers] == [503, 503]
    assert left == [True]


def test_a_worker_whose_model_lacks_the_explanations_output_does_not_start(
    brightness_archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(brightness_archive, folder)
    data = yaml.safe_load((folder / "archive.yaml").read_text())
    data["explanation"] = {"method": "attention-relevance", "side": 16}
    (folder / "archive.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ProgramError, match="no output 'attention'"):
        Classification().initialize(context(folder, []))
