from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional import classification as reference

from training.metrics import multiclass
from training.metrics.bootstrap import intervals

LABELS = ("cat", "dog", "frog", "ship")


def _made(seed: int, count: int = 400) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, len(LABELS), count)
    logits = draw.normal(0, 1, (count, len(LABELS)))
    logits[np.arange(count), targets] += 1.2
    powers = np.exp(np.round(logits, 1))
    return targets, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_torchmetrics(seed: int) -> None:
    targets, probability = _made(seed)
    told = torch.from_numpy(probability), torch.from_numpy(targets)
    wanted: dict[str, Any] = {"num_classes": len(LABELS)}
    found = multiclass.answers(targets, probability, LABELS).figures()
    for key, value in {
        "accuracy": reference.multiclass_accuracy(*told, average="micro", **wanted),
        "auroc_macro": reference.multiclass_auroc(*told, **wanted),
        "average_precision_macro": reference.multiclass_average_precision(*told, **wanted),
        "f1_macro": reference.multiclass_f1_score(*told, **wanted),
        "ece": reference.multiclass_calibration_error(*told, n_bins=15, **wanted),
    }.items():
        assert found[key] == pytest.approx(value.item(), abs=1e-4), key
    shares = reference.multiclass_recall(*told, average="none", **wanted).tolist()
    assert [found[f"sensitivity_{label}"] for label in LABELS] == pytest.approx(shares, abs=1e-6)
    counts = multiclass.answers(targets, probability, LABELS).matrix
    assert counts.tolist() == reference.multiclass_confusion_matrix(*told, **wanted).tolist()


def test_the_right_label_is_near_where_fewer_than_three_are_more_probable() -> None:
    probability = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert multiclass.answers(np.array([2, 3, 0]), probability, LABELS).figures()["accuracy_top3"] == pytest.approx(
        1 / 3
    )


def test_brier_is_summed_over_the_labels() -> None:
    found = multiclass.answers(np.array([0]), np.array([[0.5, 0.3, 0.1, 0.1]]), LABELS).figures()
    assert found["brier"] == pytest.approx(0.25 + 0.09 + 0.01 + 0.01)


def test_an_image_that_is_drawn_twice_counts_twice() -> None:
    targets, probability = _made(7)
    places = np.random.default_rng(0).integers(0, 400, 400)
    drawn = multiclass.answers(targets, probability, LABELS).figures(places)
    copied = multiclass.answers(targets[places], probability[places], LABELS).figures()
    assert drawn == pytest.approx(copied)


def test_where_a_label_is_absent_no_figure_of_it_is_made_up() -> None:
    targets, probability = _made(3)
    places = np.flatnonzero(targets != 2)
    found = multiclass.answers(targets, probability, LABELS).figures(places)
    nan = {name for name, value in found.items() if np.isnan(value)}
    assert nan == {"auroc_macro", "average_precision_macro", "sensitivity_frog"}


def test_the_confusion_names_right_and_told_labels() -> None:
    probability = np.eye(4)[[1, 1, 2]]
    counts = multiclass.confusion_counts(multiclass.answers(np.array([0, 1, 2]), probability, LABELS))
    assert counts["cat"] == {"cat": 0, "dog": 1, "frog": 0, "ship": 0}
    assert (counts["dog"]["dog"], counts["frog"]["frog"]) == (1, 1)


def test_a_bootstrap_over_images_gives_an_interval_around_each_figure() -> None:
    targets, probability = _made(5)
    answers = multiclass.answers(targets, probability, LABELS)
    found = intervals(answers.figures, [str(place) for place in range(400)], seed=1, rounds=200)
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
    spread = 1.96 * (found["accuracy"].value * (1 - found["accuracy"].value) / 400) ** 0.5
    assert found["accuracy"].high - found["accuracy"].low == pytest.approx(2 * spread, rel=0.25)
