"""Calibration of logits: temperature scaling (Guo et al. 2017) and a bias offset (Platt 1999)."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Floats = NDArray[np.floating[Any]]

_LOG_TEMPERATURES: Final = (math.log(0.05), math.log(20))
_OFFSETS: Final = (-20.0, 20.0)


def temperature(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Return the temperature, 0.05 to 20, that minimises the negative log-likelihood.

    Logits have shape (N, labels), targets (indices of the true labels) and weights (N,).
    """
    return math.exp(_minimise(lambda log: loss(logits / math.exp(log), targets, weights), _LOG_TEMPERATURES))


def offset(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Return the offset of the second of two logits, -20 to 20, that is best together with its best temperature.

    Strong augmentation shifts the training images away from the served ones in one direction. A temperature scales
    the logits but cannot shift them back.
    """

    def lowest_loss(shift: float) -> float:
        shifted = logits + np.array([0.0, shift])
        return loss(shifted / temperature(shifted, targets, weights), targets, weights)

    return _minimise(lowest_loss, _OFFSETS, tolerance=1e-4)


def loss(logits: Floats, targets: NDArray[np.integer[Any]], weights: Floats | None = None) -> float:
    """Return the mean negative log-likelihood of the true labels."""
    return -float(np.average(log_softmax(logits, axis=1)[np.arange(len(targets)), targets], weights=weights))


def _minimise(function: Callable[[float], float], bounds: tuple[float, float], tolerance: float = 1e-6) -> float:
    return float(minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": tolerance}).x)
