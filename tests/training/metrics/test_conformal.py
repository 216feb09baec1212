"""Split-conformal quantiles of grouped images."""

import crepes
import numpy as np
import pytest

from training.metrics.conformal import quantile

LEVELS = (0.503, 0.803, 0.903, 0.953)
"""No multiple of 1 / (n + 1): there, crepes includes one score more than the level requires."""


@pytest.mark.parametrize("level", LEVELS)
def test_sets_equal_those_of_crepes_for_one_image_per_group(level: float) -> None:
    random = np.random.default_rng(1)
    targets = random.integers(2, size=137)
    positive = random.beta(1.0 + 2 * targets, 3.0 - 2 * targets)
    shares = np.column_stack([1 - positive, positive])
    new = random.random(200)
    scores = np.column_stack([new, 1 - new])  # 1 - probability of each label
    for label in (0, 1):
        own = targets == label
        limit = quantile(1 - shares[own, label], np.arange(own.sum()), level)
        reference = crepes.ConformalClassifier().fit(1 - shares[own, label])
        expected = reference.predict_set(scores, confidence=level, smoothing=False)[:, label]
        np.testing.assert_array_equal(scores[:, label] <= limit, expected.astype(bool))


def test_copies_of_an_image_in_its_group_change_nothing() -> None:
    scores, groups = np.random.default_rng(1).random(50), np.arange(50)
    copies = np.random.default_rng(2).integers(1, 9, size=50)
    for level in LEVELS:
        assert quantile(scores.repeat(copies), groups.repeat(copies), level) == quantile(scores, groups, level)


def test_a_higher_level_never_lowers_the_quantile() -> None:
    scores, groups = np.random.default_rng(1).random(90), np.arange(90) // 3
    quantiles = [quantile(scores, groups, level) for level in LEVELS]
    assert quantiles == sorted(quantiles)
    assert quantiles[0] < quantiles[-1]


def test_too_few_groups_give_no_limit() -> None:
    assert quantile(np.arange(8.0), np.arange(8), 0.9) == np.inf
    assert quantile(np.arange(9.0), np.arange(9), 0.9) == 8


def test_new_groups_are_covered_at_the_level() -> None:
    random = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        patient = random.normal(size=41).repeat(5)
        scores = patient + 0.3 * random.normal(size=len(patient))
        limit = quantile(scores[:-5], np.arange(200) // 5, 0.9)
        covered.append((scores[-5:] <= limit).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.03)
