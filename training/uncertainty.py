"""Fits the prediction sets of a recipe, and measures the predictions that they leave."""

import math
import random
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from handlers.recipe import Recipe, Uncertainty
from handlers.threshold import Decision, decide, with_prevalence
from training.batches import Images
from training.datasets import Example
from training.detector.fit import with_copies
from training.detector.observations import serve
from training.evaluators import outputs
from training.evaluators.evaluator import Logits
from training.metrics import bootstrap, conformal
from training.metrics.bootstrap import Interval, Statistic
from training.metrics.reliability import bins
from training.second_pass import Passes

_DIGITS: Final = 6
_UNCHANGED: Final = 0.95
"""Share of the re-encoded copies that lie within the margin of their image."""
_COPIES: Final = 3
"""Of each image. With one, the margin of brain-tumor-cnn-attention was 0.20, 0.25 or 0.32, depending on the draw."""


def fit(recipe: Recipe, logits: Logits, images: Images, level: float, sample: str, split: str) -> Recipe:
    """Return the recipe with the conformal quantiles of labelled images, which `sample` describes in words."""
    shares = outputs.calibrated(logits, recipe.calibration)
    targets, groups = images.targets.numpy(), np.asarray(images.groups)
    quantiles = {}
    for index, label in enumerate(recipe.labels):
        own = targets == index
        quantile = conformal.quantile(1 - shares[own, index], groups[own], level)
        quantiles[label] = _up(min(1, quantile))
    fitted = f"Class-conditional split-conformal quantiles of {sample}, each patient or group with the same weight."
    section = Uncertainty(level=level, quantiles=quantiles, fitted=fitted, split=split)
    return recipe.model_copy(update={"uncertainty": section})


def with_margin(recipe: Recipe, network: nn.Module, examples: Iterable[Example]) -> Recipe:
    """Return the recipe with the margin: what re-encoding changes the log-odds of images, at most, in 95% of copies."""
    generator = random.Random("margin")  # noqa: S311 - not for security
    rows = [serve(network, recipe.input, data)[0]["logits"] for data in with_copies(examples, _COPIES, generator)]
    gaps = np.diff(outputs.both(np.stack(rows))).reshape(-1, 1 + _COPIES)
    change = float(np.quantile(np.abs(gaps[:, 1:] - gaps[:, :1]), _UNCHANGED))
    return _with_margin(recipe, change / recipe.calibration.temperature)


def keep_margin(recipe: Recipe, previous: Recipe) -> Recipe:
    """Return a refitted recipe with the previous margin, which is one of logits, at the new temperature."""
    if previous.uncertainty is None or not previous.uncertainty.margin:
        return recipe
    ratio = previous.calibration.temperature / recipe.calibration.temperature
    return _with_margin(recipe, previous.uncertainty.margin * ratio)


def _with_margin(recipe: Recipe, margin: float) -> Recipe:
    assert recipe.uncertainty is not None
    return recipe.model_copy(update={"uncertainty": recipe.uncertainty.model_copy(update={"margin": _up(margin)})})


def _up(value: float) -> float:
    return math.ceil(value * 10**_DIGITS) / 10**_DIGITS


def decisions(recipe: Recipe, logits: Logits, passes: Passes | None = None) -> list[Decision]:
    """Decide on each image as the server does; without `passes`, as if no image had a second pass."""
    second = [None] * len(logits) if passes is None else passes.due(recipe)
    return [decide(row, recipe, other) for row, other in zip(logits, second, strict=True)]


def measure(recipe: Recipe, results: list[Decision], images: Images, seed: int) -> dict[str, Interval]:
    """Measure decisions on images by which they were not fitted, with intervals; see `statistic`."""
    return bootstrap.intervals(statistic(recipe, results, images), images.groups, seed)


def statistic(recipe: Recipe, results: list[Decision], images: Images) -> Statistic:
    """Return the metrics of decisions as a function of the images drawn.

    They are accuracy, sensitivity, specificity, share uncertain, accuracy of the certain ones, calibration error, also
    with the share of positives stated, and coverage of each label. What depends on prediction sets is NaN without
    them.
    """
    truth = np.array([recipe.labels[index] for index in images.targets.tolist()])
    correct = truth == [item.label for item in results]
    sets = [item.certainty for item in results]
    defined = None not in sets
    certain = np.array([item is not None and item.status == "certain" for item in sets])
    covered = np.array(
        [item is not None and label in item.prediction_set for label, item in zip(truth, sets, strict=True)]
    )
    assert recipe.decision is not None
    name = recipe.decision.positive
    positive, share = truth == name, float(np.mean(truth == name))
    assumed = np.array([item.probabilities[name] for item in results])
    stated = np.array([with_prevalence(item, name, share).probabilities[name] for item in results])

    def compute(indices: NDArray[np.intp]) -> dict[str, float]:
        drawn, known = correct[indices], certain[indices]
        return {
            "accuracy": float(drawn.mean()),
            "sensitivity": _mean(drawn[positive[indices]]),
            "specificity": _mean(drawn[~positive[indices]]),
            "accuracy_certain": _mean(drawn[known]),
            "uncertain": float(1 - known.mean()) if defined else math.nan,
            "ece": bins(positive[indices], assumed[indices]).error,
            "ece_stated": bins(positive[indices], stated[indices]).error,
        } | {
            f"coverage of {label}": _mean(covered[indices][truth[indices] == label]) if defined else math.nan
            for label in recipe.labels
        }

    return compute


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else math.nan
