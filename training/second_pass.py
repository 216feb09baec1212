"""Fits from which darkness on images get a second pass (`handlers.second_pass`), and measures what it changes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handlers import second_pass
from handlers.formats import decode
from handlers.preprocess import at_least, preprocess
from handlers.recipe import Recipe, SecondPass
from handlers.threshold import Decision
from training.batches import Images
from training.datasets import Example
from training.detector.calibration import quantiles
from training.errors import SettingsError
from training.evaluators.evaluator import Logits
from training.metrics import bootstrap
from training.metrics.bootstrap import Interval
from training.settings import Settings

_DIGITS: Final = 6


@dataclass(frozen=True)
class Passes:
    """Brightness of N images, and the logits of their second passes."""

    brightness: NDArray[np.float64]  # (N,); see `handlers.second_pass.brightness`
    logits: Logits  # (N, outputs)

    def take(self, indices: NDArray[np.intp]) -> "Passes":
        """Return those of some of the images."""
        return Passes(self.brightness[indices], self.logits[indices])

    def due(self, recipe: Recipe) -> list[Logits | None]:
        """Return the logits of the second pass of each image that is dark enough for one, else None."""
        limit = 0 if recipe.second_pass is None else recipe.second_pass.darker_than
        return [row if value < limit else None for value, row in zip(self.brightness, self.logits, strict=True)]


def check(recipe: Recipe, settings: Settings) -> None:
    """Raise `SettingsError` if the settings have second passes for a model that cannot have them."""
    if settings.second_pass is not None and not recipe.is_binary:
        raise SettingsError("second_pass: is for classifiers that decide between two labels. Omit the setting.")


def collect(network: nn.Module, recipe: Recipe, examples: Iterable[Example]) -> Passes:
    """Run the second pass of every image, dark or not."""
    spec = recipe.input
    brightness, logits = [], []
    for example in examples:
        image = decode.decode(example.read(), at_least=at_least(spec))
        brightness.append(second_pass.brightness(preprocess(image, spec), spec))
        view = torch.from_numpy(preprocess(second_pass.copy(image, spec), spec))
        with torch.inference_mode():
            logits.append(network(view[None])["logits"][0].numpy())
    return Passes(np.array(brightness), np.stack(logits))


def fit(recipe: Recipe, passes: Passes, images: Images, share: float, sample: str) -> Recipe:
    """Return the recipe with the brightness below which lies a share of the images that `sample` describes."""
    limit = round(float(quantiles(passes.brightness, images.groups, [share])[0]), _DIGITS)
    fitted = f"{share:.0%} quantile of the brightness of {sample}, each patient or group with the same weight."
    return recipe.model_copy(update={"second_pass": SecondPass(darker_than=limit, fitted=fitted)})


def measure(
    recipe: Recipe, before: list[Decision], after: list[Decision], images: Images, seed: int
) -> dict[str, Interval]:
    """Measure which share of images gets a second pass, which it makes uncertain, and how many of these were right.

    `before` and `after` are the decisions without and with second passes, by values that were fitted to other patients.
    """
    truth = [recipe.labels[index] for index in images.targets.tolist()]
    correct = np.array([item.label == label for item, label in zip(before, truth, strict=True)])
    seen = np.array([item.certainty is not None and item.certainty.second_label is not None for item in after])
    doubted = _certain(before) & ~_certain(after)

    def compute(indices: NDArray[np.intp]) -> dict[str, float]:
        return {
            "second_pass": float(seen[indices].mean()),
            "second_pass_uncertain": float(doubted[indices].mean()),
        }

    # A bootstrap of a few results that were all right would give an interval without width.
    counts = {"second_pass_doubted": doubted, "second_pass_right": doubted & correct}
    return bootstrap.intervals(compute, images.groups, seed) | {
        name: Interval(float(mask.sum()), math.nan, math.nan) for name, mask in counts.items()
    }


def _certain(decisions: list[Decision]) -> NDArray[np.bool_]:
    return np.array([item.certainty is not None and item.certainty.status == "certain" for item in decisions])
