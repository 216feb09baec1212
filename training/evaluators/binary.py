"""Judge of answers that are yes or no."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Calibration, Recipe
from training import plots as drawing
from training.batches import Images
from training.evaluators import Logits, Verdict, outputs
from training.metrics import binary, bootstrap, calibration, threshold
from training.settings import Settings


class Binary:
    """See `training.evaluators.Judge`; both labels weigh alike in what is fitted."""

    def offset(self, logits: Logits, images: Images) -> float:
        """Strong augmentation makes a bias, see `training.metrics.binary.calibration.offset`."""
        return calibration.offset(outputs.both(logits), images.targets.numpy(), _equal(images))

    def choose(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, count: str) -> Recipe:
        """Highest threshold that reaches the sensitivity of the settings."""
        assert recipe.decision is not None
        fitted = round(calibration.temperature(outputs.both(logits), images.targets.numpy(), _equal(images)), 4)
        positive, place = _positive(recipe, images)
        probability = outputs.probabilities(logits, fitted)[:, place]
        limit = threshold.for_sensitivity(positive, probability, settings.sensitivity)
        chosen = f"Highest with sensitivity of at least {settings.sensitivity:g} on {count}."
        words = f"Least negative log-likelihood on {count}, both labels weighed alike."
        return recipe.model_copy(
            update={
                "calibration": Calibration(temperature=fitted, fitted=words),
                "decision": recipe.decision.model_copy(update={"threshold": limit, "chosen": chosen}),
            }
        )

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Verdict:
        """Measure at the recipe's threshold and over all."""
        assert recipe.decision is not None
        positive, place = _positive(recipe, images)
        probability = outputs.probabilities(logits, recipe.calibration.temperature)[:, place]
        limit = recipe.decision.threshold

        def statistic(places: NDArray[np.intp]) -> dict[str, float]:
            return binary.figures(positive[places], probability[places], limit)

        measured = bootstrap.intervals(statistic, images.groups, seed)
        first, second = (label for label in recipe.labels)
        labels = (second, first) if place == 0 else (first, second)
        return Verdict(
            figures={name: bootstrap.rounded(interval) for name, interval in measured.items()},
            confusion=dict(binary.confusion_counts(positive, probability, limit)),
            plot=lambda folder: drawing.binary(positive, probability, limit, labels, folder),
        )


def _positive(recipe: Recipe, images: Images) -> tuple[NDArray[np.bool_], int]:
    assert recipe.decision is not None
    place = recipe.labels.index(recipe.decision.positive)
    return (images.targets == place).numpy(), place


def _equal(images: Images) -> NDArray[np.floating]:
    return binary.equal_prevalence((images.targets == 1).numpy())
