"""What a score says at every threshold, from which curves and the areas under them come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Sweep:
    """Answers counted from the highest threshold to the lowest.

    Attributes
    ----------
    thresholds
        Shape (L,), descending; the answer is positive where the score reaches the threshold.
    hits, alarms
        Shape (L,): positives and negatives that are answered positive, by weight.
    """

    thresholds: Floats
    hits: Floats
    alarms: Floats

    @property
    def sensitivity(self) -> Floats:
        """Share of the positives that are found; NaN where there is none."""
        return shares(self.hits, np.broadcast_to(self.hits[-1:].sum(), self.hits.shape))

    @property
    def specificity(self) -> Floats:
        """Share of the negatives that are left alone; NaN where there is none."""
        return 1 - shares(self.alarms, np.broadcast_to(self.alarms[-1:].sum(), self.alarms.shape))

    @property
    def precision(self) -> Floats:
        """Share of the positive answers that are right; NaN where there is none."""
        return shares(self.hits, self.hits + self.alarms)

    @property
    def auroc(self) -> float:
        """Probability that a positive scores above a negative; ties count half (Mann-Whitney)."""
        pairs = self.hits[-1:].sum() * self.alarms[-1:].sum()
        if pairs == 0:
            return float("nan")
        found = self.hits - np.diff(self.hits, prepend=0) / 2
        return float((np.diff(self.alarms, prepend=0) * found).sum() / pairs)

    @property
    def average_precision(self) -> float:
        """Precision at every threshold, weighed by the sensitivity that is gained there."""
        gained = np.diff(self.hits, prepend=0)
        if gained.sum() == 0:
            return float("nan")
        return float((gained * np.where(gained > 0, self.precision, 0)).sum() / gained.sum())


@dataclass(frozen=True)
class Ranking:
    """Scores put in order once, to be swept under many weights.

    Attributes
    ----------
    levels
        Shape (L,): the different scores, descending.
    place
        Shape (N,): the level of each item.
    positive
        Shape (N,): the truth.
    """

    levels: Floats
    place: NDArray[np.intp]
    positive: Flags

    def sweep(self, weights: Floats | None = None) -> Sweep:
        """Count at every threshold.

        Parameters
        ----------
        weights
            Shape (N,), how much each item counts; 1 without them.
        """
        weights = np.ones(len(self.place)) if weights is None else weights
        hits = sums(self.place, weights * self.positive, len(self.levels))
        alarms = sums(self.place, weights * ~self.positive, len(self.levels))
        return Sweep(self.levels, np.cumsum(hits), np.cumsum(alarms))


def rank(positive: Flags, score: Floats) -> Ranking:
    """Put scores in order; both arrays have shape (N,)."""
    levels, place = np.unique(-score, return_inverse=True)
    return Ranking(-levels, place, positive)


def sums(place: NDArray[np.intp], values: Floats, count: int = 0) -> Floats:
    """Add up the values at each place; at least `count` places."""
    added: Floats = np.bincount(place, weights=values, minlength=count).astype(np.float64)
    return added


def shares(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    found: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found
