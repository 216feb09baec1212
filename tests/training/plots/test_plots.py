import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from training import plots
from training.metrics import multiclass
from training.metrics.overlap import compare
from training.plots import classification, segmentation

DRAW = np.random.default_rng(0)
POSITIVE = DRAW.random(200) < 0.6
PROBABILITY = 1 / (1 + np.exp(-DRAW.normal(np.where(POSITIVE, 2, -2), 1.5)))
DICE = DRAW.random(12)
MASK = np.zeros((40, 40), dtype=bool)
MASK[10:20, 12:30] = True

PLOTS: dict[str, Callable[[Path], None]] = {
    "roc": partial(classification.roc, POSITIVE, PROBABILITY, 0.4),
    "precision_recall": partial(classification.precision_recall, POSITIVE, PROBABILITY, 0.4),
    "over_thresholds": partial(classification.over_thresholds, POSITIVE, PROBABILITY, 0.4),
    "scores": partial(classification.scores, POSITIVE, PROBABILITY, 0.4, ("no", "yes")),
    "reliability": partial(classification.reliability, POSITIVE, PROBABILITY),
    "confusion": partial(classification.confusion, np.array([[50, 3], [4, 60]]), ("no", "yes")),
    "dice_per_patient": partial(segmentation.dice_per_patient, DICE),
    "slice_dice": partial(segmentation.slice_dice, DICE),
    "volumes": partial(segmentation.volumes, DICE * 1000, DICE * 900),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_not_empty_and_reproducible(name: str, tmp_path: Path) -> None:
    PLOTS[name](tmp_path / "first.png")
    with mpl.rc_context({"figure.facecolor": "red", "font.size": 30}):
        PLOTS[name](tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert set(image.info) <= {"dpi"}
        assert image.width > 200
        assert len(set(image.convert("L").tobytes())) > 20


def test_other_predictions_give_other_plots(tmp_path: Path) -> None:
    classification.roc(POSITIVE, PROBABILITY, 0.4, tmp_path / "first.png")
    classification.roc(POSITIVE, 1 - PROBABILITY, 0.4, tmp_path / "second.png")
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "second.png").read_bytes()


def test_ten_labels_fit_into_a_matrix(tmp_path: Path) -> None:
    labels = [f"label {index}" for index in range(10)]
    classification.confusion(DRAW.integers(0, 999, (10, 10)), labels, tmp_path / "ten.png")
    with Image.open(tmp_path / "ten.png") as image:
        assert image.width == image.height > 800


def test_plots_without_data_are_written(tmp_path: Path) -> None:
    segmentation.slice_dice(np.array([]), tmp_path / "slices.png")
    segmentation.dice_per_patient(np.array([np.nan]), tmp_path / "patients.png")
    assert (tmp_path / "slices.png").is_file()
    assert (tmp_path / "patients.png").is_file()


def test_every_task_has_its_plots(tmp_path: Path) -> None:
    plots.binary(POSITIVE, PROBABILITY, 0.4, ("no", "yes"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "confusion.png",
        "precision-recall.png",
        "reliability.png",
        "roc.png",
        "scores.png",
        "thresholds.png",
    }
    (tmp_path / "many").mkdir()
    shares = DRAW.dirichlet((1, 1, 1), 50)
    plots.multiclass(multiclass.predictions(DRAW.integers(0, 3, 50), shares, ("a", "b", "c")), tmp_path / "many")
    assert {path.name for path in (tmp_path / "many").iterdir()} == {"confusion.png", "reliability.png"}
    (tmp_path / "masks").mkdir()
    plots.masks(compare(np.stack([MASK, MASK]), np.stack([MASK, ~MASK]), ["a", "b"]), tmp_path / "masks")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {
        "dice-patients.png",
        "dice-slices.png",
        "volumes.png",
    }


def test_pyplot_is_not_imported() -> None:
    code = "import sys, training.plots; print('matplotlib.pyplot' in sys.modules)"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "False"
