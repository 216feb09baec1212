"""Figures of a binary classifier, from the definitions.

Everywhere `positive` holds the truth, `score` what the model says of it; both have shape (N,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.metrics.reliability import bins
from training.metrics.threshold_sweep import Flags, Floats, rank


@dataclass(frozen=True)
class Confusion:
    """Counts of right and wrong answers."""

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int

    @property
    def sensitivity(self) -> float:
        """Share of the positives that are found."""
        return _share(self.true_positive, self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the negatives that are left alone."""
        return _share(self.true_negative, self.false_positive)

    @property
    def precision(self) -> float:
        """Share of the positive answers that are right."""
        return _share(self.true_positive, self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision."""
        return _share(2 * self.true_positive, self.false_positive + self.false_negative)


def confusion(positive: Flags, predicted: Flags) -> Confusion:
    """Count."""
    return Confusion(
        true_positive=int((positive & predicted).sum()),
        false_negative=int((positive & ~predicted).sum()),
        false_positive=int((~positive & predicted).sum()),
        true_negative=int((~positive & ~predicted).sum()),
    )


def auroc(positive: Flags, score: Floats) -> float:
    """Probability that a positive scores above a negative; ties count half (Mann-Whitney)."""
    return rank(positive, score).sweep().auroc


def average_precision(positive: Flags, score: Floats) -> float:
    """Precision at every threshold, weighed by the sensitivity that is gained there."""
    return rank(positive, score).sweep().average_precision


def brier(positive: Flags, probability: Floats, weights: Floats | None = None) -> float:
    """Mean squared distance of probability and truth."""
    return float(np.average((probability - positive) ** 2, weights=weights))


def calibration_error(positive: Flags, probability: Floats, weights: Floats | None = None) -> float:
    """Compute the expected calibration error over 15 bins of equal width (Guo et al. 2017)."""
    return bins(positive, probability, weights).error


def equal_prevalence(positive: Flags) -> Floats:
    """Weights with which both classes count alike; not defined where one is absent."""
    share = positive.mean()
    if share in {0, 1}:
        return np.full(len(positive), np.nan)
    weights: Floats = np.where(positive, 0.5 / share, 0.5 / (1 - share))
    return weights


def figures(positive: Flags, probability: Floats, threshold: float) -> dict[str, float]:
    """Every figure at once; those that end in `_equal` are at equal prevalence."""
    counts = confusion(positive, probability >= threshold)
    equal = equal_prevalence(positive)
    sweep = rank(positive, probability).sweep()
    return {
        "auroc": sweep.auroc,
        "average_precision": sweep.average_precision,
        "sensitivity": counts.sensitivity,
        "specificity": counts.specificity,
        "precision": counts.precision,
        "f1": counts.f1,
        "brier": brier(positive, probability),
        "brier_equal": brier(positive, probability, equal),
        "ece": calibration_error(positive, probability),
        "ece_equal": calibration_error(positive, probability, equal),
    }


def confusion_counts(positive: Flags, probability: Floats, threshold: float) -> Mapping[str, int]:
    """Give the confusion matrix as names and counts."""
    return vars(confusion(positive, probability >= threshold))


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")
