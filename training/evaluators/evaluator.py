"""Interface of evaluators, and their result."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Calibration, Recipe
from training.batches import Images
from training.settings import Settings

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation."""

    metrics: dict[str, dict[str, Any]]  # name -> {"value", "ci95"}
    confusion: dict[str, Any] | None  # as in `metrics.json`; None for masks
    plot: Callable[[Path], None]  # writes plots into a folder


class Evaluator(ABC):
    """Calibrates and measures one kind of model output; `logits` are those of `images`, in the same order."""

    def bias_offset(self, logits: Logits, images: Images) -> float:
        """Return the offset to add to the last bias of the network before its weights are released."""
        del logits, images
        return 0.0

    @abstractmethod
    def calibrate(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, sample: str) -> Recipe:
        """Return the recipe with fitted temperature and threshold; `sample` describes the images in words."""

    @abstractmethod
    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Evaluation:
        """Measure the model with the temperature and threshold of its recipe."""


def with_calibration(
    recipe: Recipe,
    temperature: float,
    fitted: str,
    decision: Mapping[str, Any] | None,
    *,
    prevalence: float | None = None,
) -> Recipe:
    """Return a recipe with another calibration, and with changes to its decision."""
    assumed = {} if prevalence is None else {"prevalence": prevalence}
    update: dict[str, Any] = {"calibration": Calibration(temperature=temperature, fitted=fitted, **assumed)}
    if decision is not None:
        assert recipe.decision is not None
        update["decision"] = recipe.decision.model_copy(update=dict(decision))
    return recipe.model_copy(update=update)
