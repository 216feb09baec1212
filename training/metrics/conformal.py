"""Split-conformal quantiles of grouped images."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_ROUNDING: Final = 1e-9


def quantile(scores: Floats, groups: NDArray[Any], level: float) -> float:
    """Return the score that a new image of a new group exceeds with a probability of at most 1 - `level`.

    Each of the K groups has the weight 1 / (K + 1), shared by its images; the rest is for the new group (Lee, Barber
    and Willett 2023, "Distribution-free inference with hierarchical data", section 3). With one image per group, this
    is the usual split-conformal quantile. Infinite if there are too few groups for the level.
    """
    _, owner, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weights = np.cumsum((1 / sizes)[owner][order])
    reached = np.flatnonzero(weights >= level * (len(sizes) + 1) - _ROUNDING)
    return float(scores[order][reached[0]]) if len(reached) else math.inf
