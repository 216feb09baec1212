"""What a trained network is worth: calibrated, decided and measured on one side of a split.

A judge a kind of answer; `of` picks it. Raw outputs go in, so the network runs once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Recipe
from training.batches import Images
from training.settings import Settings

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """What was measured.

    Attributes
    ----------
    figures
        Name -> {"value", "ci95"}.
    confusion
        As `metrics.json` holds it; None where there is none.
    plot
        Writes pictures of it into a folder.
    """

    figures: dict[str, dict[str, Any]]
    confusion: dict[str, Any] | None
    plot: Callable[[Path], None]


class Evaluator(Protocol):
    """How one kind of answer is calibrated, decided and measured.

    Everywhere `logits` are the network's, in the order of `images`.
    """

    def offset(self, logits: Logits, images: Images) -> float:
        """Find what to add to the head's last bias before the weights are shipped; 0 for none."""

    def choose(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, count: str) -> Recipe:
        """Fit the temperature and choose the threshold; `count` says on what, in words."""

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Verdict:
        """Measure, as shipped."""


def of(recipe: Recipe) -> Evaluator:
    """Pick the judge of a recipe's answers."""
    if recipe.task == "segmentation":
        from training.evaluators.segmentation import Masks

        return Masks()
    if recipe.decision is not None:
        from training.evaluators.binary import Binary

        return Binary()
    from training.evaluators.multiclass import Many

    return Many()
