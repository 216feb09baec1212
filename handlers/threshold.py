"""Applies activation, calibration and threshold: turns the logits of an image into probabilities and a label."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handlers.certainty import Certainty, certainty, with_second_label
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
    prevalence: float | None = None  # share of positive images that probabilities and threshold assume, if known
    certainty: Certainty | None = None  # None where the recipe has no uncertainty


def decide(logits: NDArray[np.float32], recipe: Recipe, second: NDArray[np.float32] | None = None) -> Decision:
    """Decide on one image from its logits, shape (recipe.outputs,), and those of its second pass, if it has one."""
    decision = _decide(logits, recipe)
    if second is None or decision.certainty is None:
        return decision
    label = _decide(second, recipe).label
    return replace(decision, certainty=with_second_label(decision.certainty, decision.label, label, recipe.labels))


def _decide(logits: NDArray[np.float32], recipe: Recipe) -> Decision:
    if logits.shape != (recipe.outputs,) or not np.isfinite(logits).all():
        raise InternalError("The model returned an invalid number for this image, so it has no label.")
    scaled = logits.astype(np.float64)
    if recipe.activation == "sigmoid":
        scaled = np.array([0.0, scaled[0]])
    if recipe.calibration.bias:
        scaled = scaled + np.array([0, recipe.calibration.bias])
    scaled = scaled / recipe.calibration.temperature
    powers = np.exp(scaled - scaled.max())
    probabilities = dict(zip(recipe.labels, (powers / powers.sum()).tolist(), strict=True))
    if recipe.decision is None:
        return Decision(max(probabilities, key=probabilities.__getitem__), probabilities, None, None)
    label, threshold = recipe.decision.positive, recipe.decision.threshold
    positive = probabilities[label] >= threshold
    (negative,) = (other for other in recipe.labels if other != label)
    decided = label if positive else negative
    section = recipe.uncertainty
    sets = None if section is None else certainty(decided, probabilities, recipe.decision, section)
    return Decision(decided, probabilities, positive, threshold, recipe.calibration.prevalence, sets)


def with_prevalence(decision: Decision, positive: str, prevalence: float) -> Decision:
    """Return a decision between two labels whose probabilities assume another share of positive images.

    Multiplies the odds of the positive label by the ratio of the prior odds (Elkan 2001, theorem 2; Saerens et al.
    2002, section 2.2). The threshold moves with the probabilities, so label and certainty do not depend on the share:
    a caller who states a rare disease gets other probabilities, not another sensitivity.
    """
    assert decision.prevalence is not None
    assert decision.threshold is not None
    shifted = shift(decision.probabilities[positive], decision.prevalence, prevalence)
    probabilities = {name: shifted if name == positive else 1 - shifted for name in decision.probabilities}
    threshold = shift(decision.threshold, decision.prevalence, prevalence)
    return replace(decision, probabilities=probabilities, threshold=threshold, prevalence=prevalence)


def shift(probability: float, before: float, after: float) -> float:
    """Return a probability that assumed the prevalence `before`, at the prevalence `after`; see `with_prevalence`."""
    factor = _odds(after) / _odds(before)
    return probability * factor / (probability * factor + 1 - probability)


def _odds(share: float) -> float:
    return share / (1 - share)
