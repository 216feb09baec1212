"""Judge of answers that are one of many labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Calibration, Recipe
from training import plots as drawing
from training.batches import Images
from training.evaluators import Logits, Verdict, outputs
from training.metrics import bootstrap, calibration, multiclass
from training.settings import Settings


class Many:
    """See `training.evaluators.Judge`; there is no threshold, the most probable label is the answer."""

    def offset(self, logits: Logits, images: Images) -> float:
        """Leave the network as it is."""
        del logits, images
        return 0.0

    def choose(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, count: str) -> Recipe:
        """Fit the temperature."""
        del settings
        fitted = round(calibration.temperature(logits.astype(np.float64), images.targets.numpy()), 4)
        words = f"Least negative log-likelihood on {count}."
        return recipe.model_copy(update={"calibration": Calibration(temperature=fitted, fitted=words)})

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Verdict:
        """Measure the most probable label, and the ranking of each."""
        probability = outputs.probabilities(logits, recipe.calibration.temperature)
        answers = multiclass.answers(images.targets.numpy(), probability, recipe.labels)

        def statistic(places: NDArray[np.intp]) -> dict[str, float]:
            return answers.figures(places)

        measured = bootstrap.intervals(statistic, images.groups, seed)
        return Verdict(
            figures={name: bootstrap.rounded(interval) for name, interval in measured.items()},
            confusion=dict(multiclass.confusion_counts(answers)),
            plot=lambda folder: drawing.multiclass(answers, folder),
        )
