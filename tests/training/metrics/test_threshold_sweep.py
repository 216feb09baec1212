import numpy as np
import pytest

from training.errors import TrainingError
from training.metrics.threshold_sweep import rank, threshold_for_sensitivity

POSITIVE = np.array([True, True, True, False, False])
SCORE = np.array([0.9, 0.6, 0.3, 0.6, 0.1])


def test_a_sweep_counts_from_the_highest_threshold_down() -> None:
    sweep = rank(POSITIVE, SCORE).sweep()
    assert sweep.thresholds.tolist() == [0.9, 0.6, 0.3, 0.1]
    assert sweep.hits.tolist() == [1, 2, 3, 3]
    assert sweep.alarms.tolist() == [0, 1, 1, 2]
    assert sweep.sensitivity.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert sweep.specificity.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 0])
    assert sweep.precision.tolist() == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_equals_that_many_copies(seed: int) -> None:
    draw = np.random.default_rng(seed)
    positive, score, times = draw.random(200) < 0.4, np.round(draw.random(200), 2), draw.integers(0, 4, 200)
    weighted = rank(positive, score).sweep(times.astype(float))
    copied = rank(np.repeat(positive, times), np.repeat(score, times)).sweep()
    assert weighted.auroc == pytest.approx(copied.auroc)
    assert weighted.average_precision == pytest.approx(copied.average_precision)


def test_metrics_of_an_absent_class_are_undefined() -> None:
    sweep = rank(~POSITIVE & POSITIVE, SCORE).sweep()
    assert np.isnan([sweep.auroc, sweep.average_precision]).all()
    assert np.isnan(sweep.sensitivity).all()


def test_the_threshold_is_the_highest_that_reaches_the_sensitivity() -> None:
    probability = np.linspace(0.01, 0.99, 99)
    positive = probability > 0.5
    threshold = threshold_for_sensitivity(positive, probability, 0.8)
    assert np.mean(probability[positive] >= threshold) >= 0.8
    higher = probability[probability > threshold + 1e-5].min()
    assert np.mean(probability[positive] >= higher + 1e-9) < 0.8


def test_rounding_does_not_lose_a_positive() -> None:
    probability = np.array([0.1234569, 0.9])
    threshold = threshold_for_sensitivity(np.array([True, True]), probability, 1.0)
    assert threshold == 0.123456
    assert (probability >= threshold).all()


def test_an_exact_share_requires_no_additional_positive() -> None:
    probability = np.arange(1, 101) / 101
    assert threshold_for_sensitivity(np.ones(100, dtype=bool), probability, 0.96) == pytest.approx(5 / 101, abs=1e-6)


def test_negatives_do_not_affect_the_threshold() -> None:
    positive = np.array([True, True, False])
    assert threshold_for_sensitivity(positive, np.array([0.5, 0.7, 0.1]), 1.0) == 0.5


@pytest.mark.parametrize("probability", [[0.0, 0.9], [1.0, 1.0]])
def test_a_threshold_of_0_or_1_is_rejected(probability: list[float]) -> None:
    with pytest.raises(TrainingError, match="does not separate"):
        threshold_for_sensitivity(np.array([True, True]), np.array(probability), 1.0)


def test_a_threshold_requires_positives() -> None:
    with pytest.raises(TrainingError, match="without positive images"):
        threshold_for_sensitivity(np.array([False]), np.array([0.5]), 0.96)
