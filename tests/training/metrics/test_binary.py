import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from training.metrics import binary
from training.metrics.reliability import bins
from training.metrics.threshold_sweep import rank

POSITIVE = np.array([True, True, True, False, False])
SCORE = np.array([0.9, 0.6, 0.3, 0.6, 0.1])


def test_the_confusion_matrix_counts_every_prediction() -> None:
    counts = binary.confusion(POSITIVE, SCORE >= 0.5)
    assert counts == binary.Confusion(true_positive=2, false_negative=1, false_positive=1, true_negative=1)
    assert counts.sensitivity == pytest.approx(2 / 3)
    assert counts.specificity == pytest.approx(1 / 2)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)


def test_published_counts_give_the_published_metrics() -> None:
    counts = binary.Confusion(true_positive=388, false_negative=2, false_positive=169, true_negative=65)
    assert counts.precision == pytest.approx(0.6966, abs=1e-4)
    assert counts.sensitivity == pytest.approx(0.9949, abs=1e-4)
    assert counts.specificity == pytest.approx(0.278, abs=1e-3)


def test_auroc_is_the_share_of_correctly_ordered_pairs() -> None:
    # Pairs: .9>.6, .9>.1, .6=.6 (half), .6>.1, .3<.6, .3>.1.
    assert rank(POSITIVE, SCORE).sweep().auroc == pytest.approx(4.5 / 6)


def test_average_precision_by_hand() -> None:
    # Thresholds .9: precision 1, gains 1/3; .6: 2/3, 1/3; .3: 3/4, 1/3.
    assert rank(POSITIVE, SCORE).sweep().average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_average_precision_agree_with_torchmetrics(seed: int) -> None:
    draw = np.random.default_rng(seed)
    positive = draw.random(300) < 0.4
    score = np.round(draw.normal(positive, 1.0), 1)
    score = (score - score.min()) / (score.max() - score.min())
    tensors = torch.from_numpy(score), torch.from_numpy(positive).int()
    sweep = rank(positive, score).sweep()
    assert sweep.auroc == pytest.approx(binary_auroc(*tensors).item(), abs=1e-5)
    assert sweep.average_precision == pytest.approx(binary_average_precision(*tensors).item(), abs=1e-5)


def test_auroc_of_one_class_is_undefined() -> None:
    assert np.isnan(rank(np.array([True, True]), np.array([0.1, 0.2])).sweep().auroc)


def test_brier_by_hand() -> None:
    assert binary.brier(POSITIVE, SCORE) == pytest.approx((0.01 + 0.16 + 0.49 + 0.36 + 0.01) / 5)


def test_the_calibration_error_weights_the_gap_of_each_bin() -> None:
    positive = np.array([True, False, True, True])
    probability = np.array([0.3, 0.3, 0.9, 0.9])
    # Two bins of two: |.3 - .5| and |.9 - 1|.
    assert bins(positive, probability).error == pytest.approx((0.2 + 0.1) / 2)


def test_a_perfect_model_has_no_calibration_error() -> None:
    positive = np.array([True, False])
    assert bins(positive, positive.astype(float)).error == 0


def test_equal_weights_give_both_classes_the_same_total() -> None:
    weights = binary.equal_weights(POSITIVE)
    assert weights[POSITIVE].sum() == pytest.approx(weights[~POSITIVE].sum())
    assert weights.sum() == pytest.approx(5)


def test_metrics_of_an_absent_class_are_undefined() -> None:
    result = binary.compute(np.array([True, True]), np.array([0.2, 0.9]), 0.5)
    assert {name for name, value in result.items() if np.isnan(value)} == {
        "auroc",
        "specificity",
        "brier_equal",
        "ece_equal",
    }
