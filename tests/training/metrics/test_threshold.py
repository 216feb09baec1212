from __future__ import annotations

import numpy as np
import pytest

from training.errors import TrainingError
from training.metrics.threshold import for_sensitivity


def test_it_is_the_highest_that_reaches_the_sensitivity() -> None:
    probability = np.linspace(0.01, 0.99, 99)
    positive = probability > 0.5
    threshold = for_sensitivity(positive, probability, 0.8)
    assert np.mean(probability[positive] >= threshold) >= 0.8
    higher = probability[probability > threshold + 1e-5].min()
    assert np.mean(probability[positive] >= higher + 1e-9) < 0.8


def test_rounding_does_not_lose_the_positive_that_sets_it() -> None:
    probability = np.array([0.1234569, 0.9])
    threshold = for_sensitivity(np.array([True, True]), probability, 1.0)
    assert threshold == 0.123456
    assert (probability >= threshold).all()


def test_an_exact_share_needs_no_further_positive() -> None:
    probability = np.arange(1, 101) / 101
    assert for_sensitivity(np.ones(100, dtype=bool), probability, 0.96) == pytest.approx(5 / 101, abs=1e-6)


def test_negatives_do_not_matter() -> None:
    positive = np.array([True, True, False])
    assert for_sensitivity(positive, np.array([0.5, 0.7, 0.1]), 1.0) == 0.5


@pytest.mark.parametrize("probability", [[0.0, 0.9], [1.0, 1.0]])
def test_a_threshold_that_decides_nothing_is_refused(probability: list[float]) -> None:
    with pytest.raises(TrainingError, match="decides nothing"):
        for_sensitivity(np.array([True, True]), np.array(probability), 1.0)


def test_no_positive_no_threshold() -> None:
    with pytest.raises(TrainingError, match="No positive"):
        for_sensitivity(np.array([False]), np.array([0.5]), 0.96)
