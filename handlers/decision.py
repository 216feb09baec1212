"""Logits to calibrated probabilities, probabilities to a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InternalError
from handlers.recipe import Recipe


@dataclass(frozen=True)
class Decision:
    """What the model says of one image.

    Attributes
    ----------
    label
        The positive label from its threshold on, the most probable other label below it.
    probabilities
        Label -> calibrated probability, in the recipe's order; they sum to 1.
    positive, threshold
        None where the recipe names no positive label.
    """

    label: str
    probabilities: dict[str, float]
    positive: bool | None
    threshold: float | None


def decide(logits: NDArray[np.float32], recipe: Recipe) -> Decision:
    """Decide on one image.

    Parameters
    ----------
    logits
        Shape (recipe.outputs,).

    Raises
    ------
    InternalError
        If the network gave something that is no number.
    """
    if logits.shape != (recipe.outputs,) or not np.isfinite(logits).all():
        raise InternalError("The model gave no finite number for this image; its label would mean nothing.")
    shares = _activate(logits.astype(np.float64) / recipe.calibration.temperature, recipe)
    probabilities = dict(zip(recipe.labels, shares.tolist(), strict=True))
    if recipe.decision is None:
        return Decision(max(probabilities, key=probabilities.__getitem__), probabilities, None, None)
    wanted = recipe.decision
    positive = probabilities[wanted.positive] >= wanted.threshold
    (other,) = (label for label in recipe.labels if label != wanted.positive)
    return Decision(wanted.positive if positive else other, probabilities, positive, wanted.threshold)


def _activate(logits: NDArray[np.float64], recipe: Recipe) -> NDArray[np.float64]:
    if recipe.activation == "sigmoid":
        logits = np.array([0.0, logits[0]])
    powers = np.exp(logits - logits.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares
