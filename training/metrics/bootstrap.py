"""Intervals for figures, by drawing patients anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 2000

Statistic = Callable[[NDArray[np.intp]], Mapping[str, float]]
"""From the places of the images drawn to named figures; who was drawn twice is in it twice."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def intervals(statistic: Statistic, groups: Sequence[str], seed: int, rounds: int = ROUNDS) -> dict[str, Interval]:
    """Percentile bootstrap over groups: all images of a patient are drawn together.

    Parameters
    ----------
    groups
        Of each image.
    rounds
        A round in which a figure is not defined (no negative was drawn) does not count for it.
    """
    _, owner, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    members = np.argsort(owner, kind="stable")
    starts = np.cumsum(sizes) - sizes
    draw = np.random.default_rng(seed)
    drawn: list[Mapping[str, float]] = []
    for _ in range(rounds):
        picked = draw.integers(len(sizes), size=len(sizes))
        drawn.append(statistic(members[_runs(starts[picked], sizes[picked])]))
    values = statistic(np.arange(len(groups)))
    return {name: _interval(value, [figures[name] for figures in drawn]) for name, value in values.items()}


def words(groups: str, rounds: int = ROUNDS) -> str:
    """Say in metrics.json how the intervals were made; `groups` says what was drawn."""
    return f"95 %, percentile bootstrap over {groups}, {rounds} rounds"


def rounded(interval: Interval, digits: int = 4) -> dict[str, Any]:
    """Render an interval for JSON, which knows no NaN: a figure that is not defined is null."""
    if np.isnan(interval.value):
        return {"value": None, "ci95": None}
    return {"value": round(interval.value, digits), "ci95": [round(interval.low, digits), round(interval.high, digits)]}


def _runs(starts: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join the ranges [start, start + size)."""
    ends = np.cumsum(sizes)
    found: NDArray[np.intp] = np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1])
    return found


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    if np.isnan(drawn).all():
        return Interval(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(np.asarray(drawn), (2.5, 97.5)).tolist()
    return Interval(value, low, high)
