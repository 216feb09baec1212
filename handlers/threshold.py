"""Applies activation, calibration and threshold: turns the logits of an image into probabilities and a label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InternalError
from handlers.recipe import Recipe


@dataclass(frozen=True)
class Decision:
    """A classifier's result for one image.

    The label is the positive one from its threshold on, else the other; without a positive label, the most probable.
    """

    label: str
    probabilities: dict[str, float]  # label -> calibrated probability, in the recipe's order; they sum to 1
    positive: bool | None  # None, like the threshold, where the recipe has no positive label
    threshold: float | None


def decide(logits: NDArray[np.float32], recipe: Recipe) -> Decision:
    """Decide on one image from its logits, shape (recipe.outputs,)."""
    if logits.shape != (recipe.outputs,) or not np.isfinite(logits).all():
        raise InternalError("The model returned an invalid number for this image, so it has no label.")
    scaled = logits.astype(np.float64) / recipe.calibration.temperature
    if recipe.activation == "sigmoid":
        scaled = np.array([0.0, scaled[0]])
    powers = np.exp(scaled - scaled.max())
    probabilities = dict(zip(recipe.labels, (powers / powers.sum()).tolist(), strict=True))
    if recipe.decision is None:
        return Decision(max(probabilities, key=probabilities.__getitem__), probabilities, None, None)
    label, threshold = recipe.decision.positive, recipe.decision.threshold
    positive = probabilities[label] >= threshold
    (negative,) = (other for other in recipe.labels if other != label)
    return Decision(label if positive else negative, probabilities, positive, threshold)
