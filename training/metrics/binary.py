"""Metrics of a binary classifier.

`positive` is the truth, `probability` the model's probability of the positive label; both have shape (N,).
"""

from dataclasses import dataclass

import numpy as np

from training.metrics.reliability import bins
from training.metrics.threshold_sweep import Flags, Floats, rank


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix; shares are NaN where there is nothing to count."""

    true_positive: int
    false_negative: int
    false_positive: int
    true_negative: int

    @property
    def sensitivity(self) -> float:
        """Share of the positives that are predicted positive."""
        return _share(self.true_positive, self.false_negative)

    @property
    def specificity(self) -> float:
        """Share of the negatives that are predicted negative."""
        return _share(self.true_negative, self.false_positive)

    @property
    def precision(self) -> float:
        """Share of the positive predictions that are correct."""
        return _share(self.true_positive, self.false_positive)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision."""
        return _share(2 * self.true_positive, self.false_positive + self.false_negative)


def confusion(positive: Flags, predicted: Flags) -> Confusion:
    """Count true and false predictions."""
    return Confusion(
        true_positive=int((positive & predicted).sum()),
        false_negative=int((positive & ~predicted).sum()),
        false_positive=int((~positive & predicted).sum()),
        true_negative=int((~positive & ~predicted).sum()),
    )


def brier(positive: Flags, probability: Floats, weights: Floats | None = None) -> float:
    """Return the mean squared difference of probability and truth."""
    return float(np.average((probability - positive) ** 2, weights=weights))


def equal_weights(positive: Flags) -> Floats:
    """Return weights that give both classes the same total; NaN if one class is absent."""
    share = positive.mean()
    if share in {0, 1}:
        return np.full(len(positive), np.nan)
    weights: Floats = np.where(positive, 0.5 / share, 0.5 / (1 - share))
    return weights


def compute(positive: Flags, probability: Floats, threshold: float) -> dict[str, float]:
    """Compute all metrics; those with the suffix `_equal` weight both classes equally."""
    counts = confusion(positive, probability >= threshold)
    equal = equal_weights(positive)
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
        "ece": bins(positive, probability).error,
        "ece_equal": bins(positive, probability, equal).error,
    }


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else float("nan")
