"""Temperature scaling (Guo et al. 2017), and the offset between two labels (Platt 1999)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_TEMPERATURES: Final = (math.log(0.05), math.log(20))
_OFFSETS: Final = (-20.0, 20.0)


def temperature(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Find the temperature with the least negative log-likelihood.

    The loss is convex in 1/T, so it has one valley in log T as well and golden-section search finds it.

    Parameters
    ----------
    logits
        Shape (N, labels).
    targets
        Shape (N,), places of the right labels.
    weights
        Shape (N,), how much each image counts.
    """
    return math.exp(_lowest(lambda log: loss(logits / math.exp(log), targets, weights), _TEMPERATURES))


def offset(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Find what to add to the second of two logits, with the temperature that then is best.

    Strong augmentation makes the training images differ from those that are served, all in one
    direction. A temperature stretches the logits and cannot move them back.

    Parameters
    ----------
    logits, targets, weights
        As in `temperature`, with two labels.
    """

    def best(move: float) -> float:
        moved = logits + np.array([0.0, move])
        return loss(moved / temperature(moved, targets, weights), targets, weights)

    return _lowest(best, _OFFSETS, close=1e-4)


def loss(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Mean negative log-likelihood of the right labels."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    right = shifted[np.arange(len(targets)), targets]
    return float(np.average(np.log(np.exp(shifted).sum(axis=1)) - right, weights=weights))


def _lowest(value: Callable[[float], float], within: tuple[float, float], close: float = 1e-6) -> float:
    """Golden-section search for the bottom of one valley."""
    low, high = within
    while high - low > close:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if value(left) < value(right):
            high = right
        else:
            low = left
    return (low + high) / 2
