"""Compares a model as shipped with a site's profile, on the same draws of patients."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from handlers.profile import Change
from training.metrics import bootstrap
from training.metrics.bootstrap import Interval, Statistic

_KINDS = ("before", "after", "difference")


def compare(before: Statistic, after: Statistic, groups: Sequence[str], seed: int) -> dict[str, Change]:
    """Return each figure before and after, and the difference, with intervals by a bootstrap over groups."""

    def paired(indices: NDArray[np.intp]) -> Mapping[str, float]:
        first, second = before(indices), after(indices)
        return {
            f"{name}/{kind}": value
            for name in first
            for kind, value in zip(_KINDS, (first[name], second[name], second[name] - first[name]), strict=True)
        }

    intervals = bootstrap.intervals(paired, groups, seed)
    names = dict.fromkeys(key.rpartition("/")[0] for key in intervals)
    return {name: Change(**{kind: _triple(intervals[f"{name}/{kind}"]) for kind in _KINDS}) for name in names}


def _triple(interval: Interval) -> tuple[float, float, float] | None:
    if np.isnan([interval.value, interval.low, interval.high]).any():
        return None
    return round(interval.value, 4), round(interval.low, 4), round(interval.high, 4)
