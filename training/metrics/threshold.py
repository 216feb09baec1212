"""From which probability on an answer is positive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError


def for_sensitivity(
    positive: NDArray[np.bool_], probability: NDArray[np.floating[Any]], sensitivity: float, digits: int = 6
) -> float:
    """Find the highest threshold that still reaches a sensitivity.

    It is rounded down, so that rounding never loses the positive that sets it.

    Raises
    ------
    TrainingError
        If there is no positive, or it scores 0 or 1 and no threshold strictly between is left.
    """
    found = np.sort(probability[positive])[::-1]
    if not len(found):
        raise TrainingError("No positive image: a threshold cannot be chosen.")
    needed = math.ceil(round(sensitivity * len(found), 9))
    threshold: float = math.floor(float(found[needed - 1]) * 10**digits) / 10**digits
    if not 0 < threshold < 1:
        raise TrainingError(f"The threshold for sensitivity {sensitivity} would be {threshold}, which decides nothing.")
    return threshold
