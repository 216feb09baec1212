"""Refits calibration, threshold and prediction sets of a classifier with two labels, with its weights unchanged."""

import itertools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Recipe
from handlers.threshold import Decision
from training import second_pass, uncertainty
from training.batches import Images
from training.evaluators.binary import BinaryEvaluator
from training.evaluators.evaluator import Logits
from training.second_pass import Passes
from training.settings import Settings

FOLDS: Final = 5
_MIN_GROUPS: Final = 2 * FOLDS
"""Groups of each label that a measurement needs at any level, so that each part has two."""
_ROUNDING: Final = 1e-9


def refit(recipe: Recipe, settings: Settings, logits: Logits, images: Images, sample: str, split: str) -> Recipe:
    """Return the recipe with bias, temperature, threshold and quantiles of labelled images.

    The margin is kept, and so is the brightness below which an image gets a second pass.
    """
    evaluator, previous = BinaryEvaluator(), recipe
    bias = round(evaluator.bias_offset(logits, images), 4)
    shifted = logits + np.array([0, bias][-logits.shape[1] :], dtype=np.float32)
    recipe = evaluator.calibrate(recipe, settings, shifted, images, sample)
    recipe = recipe.model_copy(update={"calibration": recipe.calibration.model_copy(update={"bias": bias})})
    recipe = uncertainty.fit(recipe, logits, images, settings.level, sample, split)
    return uncertainty.keep_margin(recipe, previous)


def cross_fitted(
    recipe: Recipe, settings: Settings, logits: Logits, images: Images, passes: Passes | None = None
) -> list[Decision]:
    """Decide on each image with a recipe that is refitted without the images of its patient, in `FOLDS` parts.

    The brightness below which an image gets a second pass is refitted too, if the settings have a share of them.
    """
    fold = folds(images, settings.seed)
    results: dict[int, Decision] = {}
    for number in range(FOLDS):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        rest = images.take(others)
        fitted = refit(recipe, settings, logits[others], rest, "the other folds", "0" * 64)
        if passes is not None and settings.second_pass is not None:
            fitted = second_pass.fit(fitted, passes.take(others), rest, settings.second_pass, "the other folds")
        decided = uncertainty.decisions(fitted, logits[own], None if passes is None else passes.take(own))
        results |= dict(zip(own.tolist(), decided, strict=True))
    return [results[index] for index in range(len(images))]


def min_groups(level: float) -> int:
    """Return the groups of each label that `cross_fitted` needs: the rest of a part must have quantiles.

    A split-conformal quantile of K groups is finite if K is at least level * (K + 1).
    """
    finite = math.ceil(level / (1 - level) - _ROUNDING)
    return next(count for count in itertools.count(_MIN_GROUPS) if count - math.ceil(count / FOLDS) >= finite)


def is_measurable(images: Images, level: float) -> bool:
    """Whether every label has enough groups for `cross_fitted`."""
    pairs = set(zip(images.targets.tolist(), images.groups, strict=True))
    return all(sum(target == label for target, _ in pairs) >= min_groups(level) for label in (0, 1))


def folds(images: Images, seed: int) -> NDArray[np.intp]:
    """Return the fold of each image: groups stay together, and each label is spread evenly."""
    groups, owner = np.unique(images.groups, return_inverse=True)
    label = np.zeros(len(groups), dtype=int)
    np.maximum.at(label, owner, images.targets.numpy())
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(label[order], kind="stable")]
    fold = np.empty(len(groups), dtype=np.intp)
    fold[order] = np.arange(len(groups)) % FOLDS
    return fold[owner]
