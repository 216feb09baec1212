"""Tests of training.reference."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from handlers import recipe as recipes
from handlers.recipe import Recipe
from tests.conftest import brightness_recipe
from training import reference, settings
from training.errors import RunError
from training.evaluate import refresh
from training.metrics import report

from .conftest import ARCHIVE, make_films


def test_labels_and_probabilities_of_a_classifier_are_counted_as_by_the_server() -> None:
    model = recipes.parse(brightness_recipe(), "test")  # temperature 2, threshold 0.6 of the second label
    logits = np.array([[0, 4], [0, 4], [0, 0.5], [8, 0]], dtype=np.float32)  # probabilities 0.88, 0.88, 0.56, 0.02
    shares = reference.of_predictions(model, logits)["shares"]
    assert shares["label"] == {"dark": 0.5, "bright": 0.5}
    assert {name: share for name, share in shares["probability"].items() if share} == {
        "0.1": 0.25,
        "0.6": 0.25,
        "0.9": 0.5,
    }


def test_labels_of_a_segmentation_are_those_of_its_masks() -> None:
    data = brightness_recipe() | {"task": "segmentation", "activation": "sigmoid"}
    data["decision"] = {"positive": "bright", "threshold": 0.5, "smallest": 4, "chosen": "by hand"}
    model = recipes.parse(data, "test")
    logits = np.full((3, 1, 16, 24), -9, dtype=np.float32)
    logits[0, 0, :4, :4] = 9
    logits[1, 0, :1, :2] = 9  # fewer pixels than the smallest mask
    shares = reference.of_predictions(model, logits)["shares"]
    assert shares == {"label": {"dark": pytest.approx(2 / 3, abs=1e-4), "bright": pytest.approx(1 / 3, abs=1e-4)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy of the shipped chest model with its detector, and metrics with a reference of another one."""
    copied = Path(shutil.copytree(ARCHIVE, tmp_path / "archives" / ARCHIVE.name))
    metrics = json.loads((copied / "metrics.json").read_text())
    shares = {"label": {"normal": 0.2, "pneumonia": 0.8}, "domain": {"10": 1.0}}
    metrics["reference"] = {"shares": shares, "detector_sha256": "0" * 64}
    (copied / "metrics.json").write_text(json.dumps(metrics))
    return copied


def test_a_new_detector_replaces_the_percentiles_of_the_reference(folder: Path, tmp_path: Path) -> None:
    films = make_films(tmp_path / "films")
    refresh(folder, settings.load(folder / "training.yaml"), films)
    measured = report.load(folder / "metrics.json").reference
    assert measured is not None
    assert measured.shares["label"] == {"normal": 0.2, "pneumonia": 0.8}
    assert measured.shares["domain"]["100"] == 1  # synthetic films are unlike real ones
    assert len(measured.shares["domain"]) == 10
    assert measured.detector_sha256 == _recipe(folder).detector.sha256  # type: ignore[union-attr]


def test_without_a_detector_there_are_no_percentiles(folder: Path, tmp_path: Path) -> None:
    model = _recipe(folder).model_copy(update={"detector": None})
    before = json.loads((folder / "metrics.json").read_text())["reference"]
    config = settings.load(folder / "training.yaml")
    assert reference.with_percentiles(before, folder, model, config, tmp_path) == {
        "shares": {"label": {"normal": 0.2, "pneumonia": 0.8}}
    }


def test_a_share_above_one_is_rejected_in_the_metrics(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["reference"]["shares"]["label"]["normal"] = 1.2
    with pytest.raises(RunError, match=r"reference\.shares\.label\.normal"):
        report.parse(metrics)


def _recipe(folder: Path) -> Recipe:
    return recipes.load(folder / "archive.yaml")
