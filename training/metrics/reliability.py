"""How far probabilities are from what then happens, bin by bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.metrics.threshold_sweep import Flags, Floats, sums


@dataclass(frozen=True)
class Bins:
    """Bins of equal width over [0, 1]; each array has shape (bins,).

    Attributes
    ----------
    weight
        Of the items in the bin.
    expected, found
        Sum of the probabilities, and of the items that are positive, both by weight.
    """

    weight: Floats
    expected: Floats
    found: Floats

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): gap of each bin, by its weight."""
        return float(np.abs(self.expected - self.found).sum() / self.weight.sum())


def bins(positive: Flags, probability: Floats, weights: Floats | None = None, count: int = 15) -> Bins:
    """Sort items into bins of their probability.

    Parameters
    ----------
    positive
        Shape (N,). Of a classifier with many labels: whether the most probable one is right.
    probability
        Shape (N,), in [0, 1]. Of a classifier with many labels: of the most probable one.
    weights
        Shape (N,), how much each item counts; 1 without them.
    """
    weights = np.ones(len(positive)) if weights is None else weights
    place = np.minimum((probability * count).astype(int), count - 1)
    return Bins(
        weight=sums(place, weights, count),
        expected=sums(place, weights * probability, count),
        found=sums(place, weights * positive, count),
    )
