"""Fits the prediction sets of a recipe, and measures the predictions that they leave."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Recipe, Uncertainty
from handlers.threshold import Decision, decide, with_prevalence
from training.batches import Images
from training.evaluators import outputs
from training.evaluators.evaluator import Logits
from training.metrics import bootstrap, conformal
from training.metrics.bootstrap import Interval, Statistic
from training.metrics.reliability import bins
from training.metrics.threshold_sweep import score_at_sensitivity
from training.settings import Settings

_DIGITS: Final = 6


def fit(recipe: Recipe, logits: Logits, images: Images, settings: Settings, sample: str, split: str) -> Recipe:
    """Return the recipe with the prediction sets of labelled images, which `sample` describes in words.

    They are the images by which its threshold was chosen, with the sensitivity that the recipe states.
    """
    shares = outputs.calibrated(logits, recipe.calibration)
    targets, groups = images.targets.numpy(), np.asarray(images.groups)
    quantiles = {}
    for index, label in enumerate(recipe.labels):
        own = targets == index
        quantile = conformal.quantile(1 - shares[own, index], groups[own], settings.level)
        quantiles[label] = _up(min(1, quantile))
    fitted = f"Class-conditional split-conformal quantiles of {sample}, each patient or group with the same weight."
    section = Uncertainty(level=settings.level, quantiles=quantiles, fitted=fitted, split=split)
    interval = _threshold_interval(recipe, shares, images, settings.seed)
    if interval is not None:
        section = section.model_copy(update={"threshold_interval": interval})
    return recipe.model_copy(update={"uncertainty": section})


def _threshold_interval(
    recipe: Recipe, shares: NDArray[np.float64], images: Images, seed: int
) -> tuple[float, float] | None:
    """Return the 95% interval of the threshold, by a bootstrap over groups; None if another rule chose it."""
    assert recipe.decision is not None
    threshold, sensitivity = recipe.decision.threshold, recipe.decision.sensitivity
    if sensitivity is None:
        return None
    index = recipe.labels.index(recipe.decision.positive)
    positive, probability = images.targets.numpy() == index, shares[:, index]

    def statistic(drawn: NDArray[np.intp]) -> dict[str, float]:
        return {"threshold": score_at_sensitivity(positive[drawn], probability[drawn], sensitivity)}

    interval = bootstrap.intervals(statistic, images.groups, seed)["threshold"]
    return -_up(-min(interval.low, threshold)), _up(max(interval.high, threshold))


def _up(value: float) -> float:
    return math.ceil(value * 10**_DIGITS) / 10**_DIGITS


def decisions(recipe: Recipe, logits: Logits) -> list[Decision]:
    """Decide on each image as the server does."""
    return [decide(row, recipe) for row in logits]


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
