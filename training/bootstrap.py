"""Intervals for figures, by drawing patients anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.intp]], Mapping[str, float]]
"""From the places of the images drawn to named figures."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def intervals(statistic: Statistic, groups: Sequence[str], seed: int, rounds: int = 2000) -> dict[str, Interval]:
    """Percentile bootstrap over groups: all images of a patient are drawn together.

    Parameters
    ----------
    groups
        Of each image.
    rounds
        A round in which a figure is not defined (no negative was drawn) does not count for it.
    """
    _, owner = np.unique(np.asarray(groups), return_inverse=True)
    members: list[NDArray[np.intp]] = [np.flatnonzero(owner == group) for group in range(owner.max() + 1)]
    draw = np.random.default_rng(seed)
    drawn: list[Mapping[str, float]] = []
    for _ in range(rounds):
        picked = draw.integers(len(members), size=len(members))
        drawn.append(statistic(np.concatenate([members[group] for group in picked])))
    values = statistic(np.arange(len(groups)))
    return {name: _interval(value, [figures[name] for figures in drawn]) for name, value in values.items()}


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.nanpercentile(np.asarray(drawn), (2.5, 97.5)).tolist()
    return Interval(value, low, high)


def rounded(interval: Interval, digits: int = 4) -> dict[str, Any]:
    """Render an interval for JSON."""
    return {"value": round(interval.value, digits), "ci95": [round(interval.low, digits), round(interval.high, digits)]}
