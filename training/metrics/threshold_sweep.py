"""Metrics over all thresholds: counts for every threshold, areas under curves, and the choice of a threshold."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sweep:
    """Positive predictions at every threshold; ratios are NaN where there is nothing to count."""

    thresholds: Floats  # shape (L,), descending; the prediction is positive if the score is at least the threshold
    hits: Floats  # shape (L,): weight of the positives that are predicted positive
    alarms: Floats  # shape (L,): weight of the negatives that are predicted positive

    @property
    def sensitivity(self) -> Floats:
        """Share of the positives that are predicted positive."""
        return shares(self.hits, np.broadcast_to(self.hits[-1:].sum(), self.hits.shape))

    @property
    def specificity(self) -> Floats:
        """Share of the negatives that are predicted negative."""
        return 1 - shares(self.alarms, np.broadcast_to(self.alarms[-1:].sum(), self.alarms.shape))

    @property
    def precision(self) -> Floats:
        """Share of the positive predictions that are correct."""
        return shares(self.hits, self.hits + self.alarms)

    @property
    def auroc(self) -> float:
        """Probability that a positive scores above a negative; ties count half (Mann-Whitney)."""
        pairs = self.hits[-1:].sum() * self.alarms[-1:].sum()
        if pairs == 0:
            return float("nan")
        above = self.hits - np.diff(self.hits, prepend=0) / 2
        return float((np.diff(self.alarms, prepend=0) * above).sum() / pairs)

    @property
    def average_precision(self) -> float:
        """Mean precision over the thresholds, weighted by the gain in sensitivity."""
        gained = np.diff(self.hits, prepend=0)
        if gained.sum() == 0:
            return float("nan")
        return float((gained * np.where(gained > 0, self.precision, 0)).sum() / gained.sum())


@dataclass(frozen=True)
class Ranking:
    """Scores sorted once, to be swept with different weights."""

    levels: Floats  # shape (L,): the distinct scores, descending
    index: NDArray[np.intp]  # shape (N,): the level of each image
    positive: Flags  # shape (N,): the truth

    def sweep(self, weights: Floats | None = None) -> Sweep:
        """Count positive predictions at every threshold; `weights`, shape (N,), are 1 by default."""
        weights = np.ones(len(self.index)) if weights is None else weights
        hits = sums(self.index, weights * self.positive, len(self.levels))
        alarms = sums(self.index, weights * ~self.positive, len(self.levels))
        return Sweep(self.levels, np.cumsum(hits), np.cumsum(alarms))


def rank(positive: Flags, score: Floats) -> Ranking:
    """Sort scores; both arrays have shape (N,)."""
    levels, index = np.unique(-score, return_inverse=True)
    return Ranking(-levels, index, positive)


def threshold_for_sensitivity(positive: Flags, probability: Floats, sensitivity: float) -> float:
    """Return the highest threshold that reaches a sensitivity, rounded down to 6 digits; never 0 or 1."""
    scores = np.sort(probability[positive])[::-1]
    if not len(scores):
        raise TrainingError("Cannot choose a threshold without positive images.")
    required = math.ceil(round(sensitivity * len(scores), 9))
    threshold: float = math.floor(float(scores[required - 1]) * 10**6) / 10**6
    if not 0 < threshold < 1:
        raise TrainingError(
            f"The threshold for sensitivity {sensitivity} would be {threshold}, which does not separate the labels."
        )
    return threshold


def sums(index: NDArray[np.intp], values: Floats, count: int = 0) -> Floats:
    """Sum the values of each index; the result has at least `count` elements."""
    totals: Floats = np.bincount(index, weights=values, minlength=count).astype(np.float64)
    return totals


def shares(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide element by element; NaN where `whole` is 0."""
    ratios: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratios
