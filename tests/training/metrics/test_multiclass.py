from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional import classification as reference

from training.metrics import multiclass
from training.metrics.bootstrap import intervals

LABELS = ("cat", "dog", "frog", "ship")


def _predictions(seed: int, count: int = 400) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, len(LABELS), count)
    logits = draw.normal(0, 1, (count, len(LABELS)))
    logits[np.arange(count), targets] += 1.2
    powers = np.exp(np.round(logits, 1))
    return targets, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_torchmetrics(seed: int) -> None:
    targets, probability = _predictions(seed)
    tensors = torch.from_numpy(probability), torch.from_numpy(targets)
    options: dict[str, Any] = {"num_classes": len(LABELS)}
    result = multiclass.predictions(targets, probability, LABELS).metrics()
    for key, value in {
        "accuracy": reference.multiclass_accuracy(*tensors, average="micro", **options),
        "auroc_macro": reference.multiclass_auroc(*tensors, **options),
        "average_precision_macro": reference.multiclass_average_precision(*tensors, **options),
        "f1_macro": reference.multiclass_f1_score(*tensors, **options),
        "ece": reference.multiclass_calibration_error(*tensors, n_bins=15, **options),
    }.items():
        assert result[key] == pytest.approx(value.item(), abs=1e-4), key
    shares = reference.multiclass_recall(*tensors, average="none", **options).tolist()
    assert [result[f"sensitivity_{label}"] for label in LABELS] == pytest.approx(shares, abs=1e-6)
    counts = multiclass.predictions(targets, probability, LABELS).matrix
    assert counts.tolist() == reference.multiclass_confusion_matrix(*tensors, **options).tolist()


def test_top3_accuracy_counts_labels_with_fewer_than_three_more_probable_ones() -> None:
    probability = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert multiclass.predictions(np.array([2, 3, 0]), probability, LABELS).metrics()["accuracy_top3"] == pytest.approx(
        1 / 3
    )


def test_brier_is_summed_over_the_labels() -> None:
    result = multiclass.predictions(np.array([0]), np.array([[0.5, 0.3, 0.1, 0.1]]), LABELS).metrics()
    assert result["brier"] == pytest.approx(0.25 + 0.09 + 0.01 + 0.01)


def test_an_image_drawn_twice_counts_twice() -> None:
    targets, probability = _predictions(7)
    indices = np.random.default_rng(0).integers(0, 400, 400)
    drawn = multiclass.predictions(targets, probability, LABELS).metrics(indices)
    copied = multiclass.predictions(targets[indices], probability[indices], LABELS).metrics()
    assert drawn == pytest.approx(copied)


def test_metrics_of_an_absent_label_are_undefined() -> None:
    targets, probability = _predictions(3)
    indices = np.flatnonzero(targets != 2)
    result = multiclass.predictions(targets, probability, LABELS).metrics(indices)
    nan = {name for name, value in result.items() if np.isnan(value)}
    assert nan == {"auroc_macro", "average_precision_macro", "sensitivity_frog"}


def test_the_confusion_matrix_names_true_and_predicted_labels() -> None:
    probability = np.eye(4)[[1, 1, 2]]
    counts = multiclass.predictions(np.array([0, 1, 2]), probability, LABELS).confusion_counts
    assert counts["cat"] == {"cat": 0, "dog": 1, "frog": 0, "ship": 0}
    assert (counts["dog"]["dog"], counts["frog"]["frog"]) == (1, 1)


def test_a_bootstrap_over_images_gives_intervals_of_the_expected_width() -> None:
    targets, probability = _predictions(5)
    predictions = multiclass.predictions(targets, probability, LABELS)
    result = intervals(predictions.metrics, [str(index) for index in range(400)], seed=1, rounds=200)
    assert result["accuracy"].low < result["accuracy"].value < result["accuracy"].high
    spread = 1.96 * (result["accuracy"].value * (1 - result["accuracy"].value) / 400) ** 0.5
    assert result["accuracy"].high - result["accuracy"].low == pytest.approx(2 * spread, rel=0.25)
