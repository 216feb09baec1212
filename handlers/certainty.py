"""Prediction sets: which labels of a classifier are plausible for an image, and whether that leaves one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from handlers.recipe import Uncertainty


@dataclass(frozen=True)
class Certainty:
    """Prediction set of one image, and whether the model's label may be relied on as far as the set shows."""

    status: Literal["certain", "uncertain"]
    prediction_set: tuple[str, ...]  # in the recipe's order; may be empty
    level: float

    @property
    def document(self) -> dict[str, Any]:
        """Value of `certainty` in a prediction."""
        return {"status": self.status, "prediction_set": list(self.prediction_set), "level": self.level}


def certainty(label: str, probabilities: Mapping[str, float], positive: str, recipe: Uncertainty) -> Certainty:
    """Return the conformal set of an image (Vovk et al. 2005, section 4.5: label-conditional).

    The set contains each label whose score, 1 - probability, is at most its quantile. Within the interval of the
    threshold, which is known only to within it, the set contains both labels. The prediction is certain if the set
    contains `label`, the decision, and nothing else: with both labels or none, or with the other label alone, the model
    has no answer that agrees with its validation images.
    """
    low, high = recipe.threshold_interval or (0.0, 0.0)
    is_close = low <= probabilities[positive] < high
    labels = tuple(name for name, value in probabilities.items() if is_close or 1 - value <= recipe.quantiles[name])
    return Certainty("certain" if labels == (label,) else "uncertain", labels, recipe.level)
