"""Evaluates classifiers with more than two labels."""

import numpy as np

from handlers.recipe import Recipe
from training import plots
from training.batches import Images
from training.evaluators import outputs
from training.evaluators.evaluator import Evaluation, Evaluator, Logits, with_calibration
from training.metrics import bootstrap, calibration, multiclass
from training.settings import Settings


class MulticlassEvaluator(Evaluator):
    """Implements `Evaluator` for many labels; the prediction is the most probable one, without a threshold."""

    def calibrate(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, sample: str) -> Recipe:
        """Fit the temperature."""
        del settings
        temperature = round(calibration.temperature(logits.astype(np.float64), images.targets.numpy()), 4)
        return with_calibration(recipe, temperature, f"Minimises the negative log-likelihood on {sample}.", None)

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Evaluation:
        """Compute the metrics of the most probable label, and of the ranking of each label."""
        probability = outputs.probabilities(logits, recipe.calibration.temperature)
        predictions = multiclass.predictions(images.targets.numpy(), probability, recipe.labels)
        intervals = bootstrap.intervals(predictions.metrics, images.groups, seed)
        return Evaluation(
            metrics={name: interval.to_json() for name, interval in intervals.items()},
            confusion=dict(predictions.confusion_counts),
            plot=lambda folder: plots.multiclass(predictions, folder),
        )
