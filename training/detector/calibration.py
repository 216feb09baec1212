"""Chooses the limits of a detector on held-out images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Distances = Mapping[str, NDArray[np.float64]]
"""Distance by name, each (N,)."""
EACH: Final = 0.98
"""Share of the held-out images within the limit of one distance; the score is relative to it."""
FOLDS: Final = 5
_LEAST: Final = 0.7
"""Smallest limit of the odds of a pose: that of a pose as likely as the accepted ones has about log 2."""


@dataclass(frozen=True)
class Limits:
    """Limits of every distance, and thresholds of the score: the largest distance relative to its limit."""

    each: dict[str, float]
    marked: float
    refused: float
    percentiles: NDArray[np.float64]  # of the held-out scores, from 0 to 100

    def score(self, distances: Distances) -> NDArray[np.float64]:
        """Return the scores (N,)."""
        relative = np.stack([values / self.each[name] for name, values in distances.items()])
        largest: NDArray[np.float64] = relative.max(axis=0)
        return largest


@dataclass(frozen=True)
class Shares:
    """Shares of the held-out images from a threshold on."""

    marked: float = 0.035  # unusual or unlike
    refused: float = 0.015  # unlike


DEFAULT: Final = Shares()


def calibrate(distances: Distances, groups: Sequence[str], shares: Shares = DEFAULT) -> Limits:
    """Choose limits on held-out images, in which every group weighs the same."""
    each = {
        name: max(float(quantiles(values, groups, [EACH])[0]), _LEAST if name.startswith("pose.") else 0)
        for name, values in distances.items()
    }
    score = np.max([values / each[name] for name, values in distances.items()], axis=0)
    marked, refused = quantiles(score, groups, [1 - shares.marked, 1 - shares.refused])
    return Limits(each, float(marked), float(refused), quantiles(score, groups, np.linspace(0, 1, 101)))


def crossed(distances: Distances, groups: Sequence[str], shares: Shares = DEFAULT) -> NDArray[np.int64]:
    """Return 0 (normal), 1 (unusual) or 2 (unlike) for held-out images, by limits that other groups gave."""
    names = sorted(set(groups))
    fold = {name: index % FOLDS for index, name in enumerate(names)}
    folds = np.array([fold[group] for group in groups])
    status = np.zeros(len(groups), dtype=np.int64)
    for number in range(FOLDS):
        inside = folds == number
        others = [group for group, own in zip(groups, inside, strict=True) if not own]
        limits = calibrate({name: values[~inside] for name, values in distances.items()}, others, shares)
        scores = limits.score({name: values[inside] for name, values in distances.items()})
        status[inside] = (scores >= limits.marked).astype(int) + (scores >= limits.refused)
    return status


def quantiles(
    values: NDArray[np.float64], groups: Sequence[str], shares: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return quantiles of images, in which every group weighs the same."""
    sizes = Counter(groups)
    weights = np.array([1 / sizes[group] for group in groups])
    order = np.argsort(values)
    position = np.cumsum(weights[order]) - weights[order] / 2
    result: NDArray[np.float64] = np.interp(np.asarray(shares) * weights.sum(), position, values[order])
    return result
