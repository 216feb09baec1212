"""Prediction sets: which labels of a classifier are plausible for an image, and whether that leaves one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from handlers.recipe import Decision, Uncertainty


@dataclass(frozen=True)
class Certainty:
    """Prediction set of one image, and whether the model's label may be relied on as far as the set shows."""

    status: Literal["certain", "uncertain"]
    prediction_set: tuple[str, ...]  # in the recipe's order; may be empty
    level: float
    second_label: str | None = None  # of the second pass; None without one

    @property
    def document(self) -> dict[str, Any]:
        """Value of `certainty` in a prediction."""
        document = {"status": self.status, "prediction_set": list(self.prediction_set), "level": self.level}
        return document if self.second_label is None else document | {"second_label": self.second_label}


def certainty(label: str, probabilities: Mapping[str, float], decision: Decision, recipe: Uncertainty) -> Certainty:
    """Return the conformal set of an image (Vovk et al. 2005, section 4.5: label-conditional).

    The set contains each label whose score, 1 - probability, is at most its quantile; within the margin of the
    threshold, both labels. The prediction is certain if the set contains `label`, the decision, and nothing else: with
    both labels or none, or with the other label alone, the model has no answer that agrees with its validation images.
    """
    low, high = band(decision.threshold, recipe.margin)
    is_close = low <= probabilities[decision.positive] < high
    labels = tuple(name for name, value in probabilities.items() if is_close or 1 - value <= recipe.quantiles[name])
    return Certainty("certain" if labels == (label,) else "uncertain", labels, recipe.level)


def with_second_label(first: Certainty, label: str, second: str, labels: Sequence[str]) -> Certainty:
    """Return the certainty of an image whose second pass has the label `second`: uncertain unless it is `label`."""
    if second == label:
        return replace(first, second_label=second)
    return Certainty("uncertain", tuple(labels), first.level, second)


def band(threshold: float, margin: float) -> tuple[float, float]:
    """Return the probabilities, from and to, whose log-odds lie within a margin of the threshold's."""
    low, high = (threshold / (threshold + (1 - threshold) * math.exp(change)) for change in (margin, -margin))
    return low, high
