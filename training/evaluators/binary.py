"""Evaluates classifiers with two labels."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Recipe
from training import plots
from training.batches import Images
from training.evaluators import outputs
from training.evaluators.evaluator import Evaluation, Evaluator, Logits, with_calibration
from training.metrics import binary, bootstrap, calibration
from training.metrics.threshold_sweep import threshold_for_sensitivity
from training.settings import Settings

PREVALENCE: Final = 0.5
"""Share of positive images that probabilities assume which were fitted with both labels weighted equally."""


class BinaryEvaluator(Evaluator):
    """Implements `Evaluator` for two labels; both are weighted equally when fitting."""

    def bias_offset(self, logits: Logits, images: Images) -> float:
        """Correct the bias caused by strong augmentation; see `training.metrics.calibration.offset`."""
        return calibration.offset(outputs.both(logits), images.targets.numpy(), _equal_weights(images))

    def calibrate(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, sample: str) -> Recipe:
        """Fit the temperature, and choose the highest threshold that reaches the sensitivity of the settings."""
        weights = _equal_weights(images)
        temperature = round(calibration.temperature(outputs.both(logits), images.targets.numpy(), weights), 4)
        positive, index = _positive(recipe, images)
        probability = outputs.probabilities(logits, temperature)[:, index]
        decision = {
            "threshold": threshold_for_sensitivity(positive, probability, settings.sensitivity),
            "chosen": f"Highest threshold with a sensitivity of at least {settings.sensitivity:g} on {sample}.",
            "sensitivity": settings.sensitivity,
        }
        fitted = f"Minimises the negative log-likelihood on {sample}, with both labels weighted equally."
        return with_calibration(recipe, temperature, fitted, decision, prevalence=PREVALENCE)

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Evaluation:
        """Compute the metrics at the recipe's threshold and over all thresholds."""
        assert recipe.decision is not None
        positive, index = _positive(recipe, images)
        probability = outputs.calibrated(logits, recipe.calibration)[:, index]
        threshold = recipe.decision.threshold

        def statistic(indices: NDArray[np.intp]) -> dict[str, float]:
            return binary.compute(positive[indices], probability[indices], threshold)

        intervals = bootstrap.intervals(statistic, images.groups, seed)
        labels = (recipe.labels[1 - index], recipe.labels[index])
        return Evaluation(
            metrics={name: interval.to_json() for name, interval in intervals.items()},
            confusion=dict(vars(binary.confusion(positive, probability >= threshold))),
            plot=lambda folder: plots.binary(positive, probability, threshold, labels, folder),
        )


def _positive(recipe: Recipe, images: Images) -> tuple[NDArray[np.bool_], int]:
    assert recipe.decision is not None
    index = recipe.labels.index(recipe.decision.positive)
    return (images.targets == index).numpy(), index


def _equal_weights(images: Images) -> NDArray[np.floating]:
    return binary.equal_weights((images.targets == 1).numpy())
