"""Confidence intervals by a bootstrap over patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 2000

Statistic = Callable[[NDArray[np.intp]], Mapping[str, float]]
"""Function of the indices of the drawn images, with repetitions, to metrics by name."""


@dataclass(frozen=True)
class Interval:
    """A metric and its 95% confidence interval; NaN where it is not defined, or for a count."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the interval for `metrics.json`, where an undefined metric is null."""
        if np.isnan(self.value):
            return {"value": None, "ci95": None}
        if np.isnan(self.low):
            return {"value": self.value, "ci95": None}
        return {"value": round(self.value, 4), "ci95": [round(self.low, 4), round(self.high, 4)]}


def intervals(statistic: Statistic, groups: Sequence[str], seed: int, rounds: int = ROUNDS) -> dict[str, Interval]:
    """Compute percentile bootstrap intervals over groups: the images of a patient are drawn together.

    Rounds in which a metric is not defined (no negative drawn) are ignored for that metric.
    """
    _, owner, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    members = np.argsort(owner, kind="stable")
    starts = np.cumsum(sizes) - sizes
    random = np.random.default_rng(seed)
    resamples: list[Mapping[str, float]] = []
    for _ in range(rounds):
        drawn = random.integers(len(sizes), size=len(sizes))
        resamples.append(statistic(members[_ranges(starts[drawn], sizes[drawn])]))
    values = statistic(np.arange(len(groups)))
    return {name: _interval(value, [metrics[name] for metrics in resamples]) for name, value in values.items()}


def describe(groups: str, rounds: int = ROUNDS) -> str:
    """Return the description of the intervals for `metrics.json`; `groups` is the noun for what is drawn."""
    return f"95% confidence interval, percentile bootstrap over {groups}, {rounds} rounds"


def _ranges(starts: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Concatenate the ranges [start, start + size)."""
    ends = np.cumsum(sizes)
    indices: NDArray[np.intp] = np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1])
    return indices


def _interval(value: float, resampled: Sequence[float]) -> Interval:
    if np.isnan(resampled).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(np.asarray(resampled), (2.5, 97.5)).tolist()
    return Interval(value, low, high)
