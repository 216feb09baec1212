"""Reliability: compares probabilities with observed frequencies, bin by bin."""

from dataclasses import dataclass

import numpy as np

from training.metrics.threshold_sweep import Flags, Floats, sums


@dataclass(frozen=True)
class Bins:
    """Bins of equal width over [0, 1]; each array has shape (bins,)."""

    weight: Floats  # total weight of the images
    expected: Floats  # weighted sum of the probabilities
    observed: Floats  # weighted sum of the images that are positive

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): weighted mean gap of the bins."""
        return float(np.abs(self.expected - self.observed).sum() / self.weight.sum())


def bins(positive: Flags, probability: Floats, weights: Floats | None = None, count: int = 15) -> Bins:
    """Group images into bins by probability; all arrays have shape (N,).

    For many labels, `positive` is whether the most probable label is correct, and `probability` that of this label.
    """
    weights = np.ones(len(positive)) if weights is None else weights
    index = np.minimum((probability * count).astype(int), count - 1)
    return Bins(
        weight=sums(index, weights, count),
        expected=sums(index, weights * probability, count),
        observed=sums(index, weights * positive, count),
    )
