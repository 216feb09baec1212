"""Evaluates segmentations."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Recipe
from training import plots
from training.batches import Images
from training.evaluators.evaluator import Evaluation, Evaluator, Logits, with_calibration
from training.metrics import bootstrap, calibration, overlap
from training.settings import Settings

_THRESHOLDS: Final = tuple(round(0.1 * step, 1) for step in range(2, 9))
_SMALLEST: Final = (1, 8, 16, 32, 64, 96)
_PIXELS: Final = 500_000  # number of pixels to fit the temperature on; more do not change it


class SegmentationEvaluator(Evaluator):
    """Implements `Evaluator` for masks, which are compared in the geometry of the network."""

    def calibrate(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, sample: str) -> Recipe:
        """Fit the temperature on pixels, then choose the threshold and the smallest mask with the highest Dice.

        Only choices with at most `settings.false_alarms` count; if there are none, those with the fewest.
        """
        temperature = round(_temperature(logits, images), 4)
        scaled = logits / temperature
        threshold, smallest = _best_decision(scaled, images, settings.false_alarms)
        alarms = _false_alarms(predict(scaled, threshold, smallest), _truth(images))
        decision = {
            "threshold": threshold,
            "smallest": smallest,
            "chosen": f"With a smallest mask of {smallest} pixels, the highest sum of Dice per patient and Dice per "
            f"slice on {sample}{_limit(settings.false_alarms, alarms)}.",
        }
        fitted = f"Minimises the negative log-likelihood of pixels on {sample}."
        return with_calibration(recipe, temperature, fitted, decision)

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Evaluation:
        """Compute the metrics per patient and per slice."""
        assert recipe.decision is not None
        decision, truth = recipe.decision, _truth(images)
        predicted = predict(logits / recipe.calibration.temperature, decision.threshold, decision.smallest)
        overlaps = overlap.compare(predicted, truth, images.groups)
        intervals = bootstrap.intervals(overlaps.metrics, images.groups, seed)
        return Evaluation(
            metrics={name: interval.to_json() for name, interval in intervals.items()},
            confusion=None,
            plot=lambda folder: plots.masks(overlaps, folder),
        )


def predict(scaled: Logits, threshold: float, smallest: int) -> NDArray[np.bool_]:
    """Convert logits (N, 1, height, width), divided by the temperature, to masks (N, height, width).

    Masks of fewer than `smallest` pixels are emptied.
    """
    masks: NDArray[np.bool_] = scaled[:, 0] >= np.log(threshold / (1 - threshold))
    masks[masks.sum((1, 2)) < smallest] = False
    return masks


def _truth(images: Images) -> NDArray[np.bool_]:
    assert images.masks is not None
    return images.masks[:, 0].bool().numpy()


def _temperature(logits: Logits, images: Images) -> float:
    flat, truth = logits.ravel(), _truth(images).ravel()
    # An odd stride visits every column.
    step = max(1, len(flat) // _PIXELS) | 1
    pairs = np.stack([np.zeros_like(flat[::step]), flat[::step]], axis=1).astype(np.float64)
    return calibration.temperature(pairs, truth[::step].astype(np.int64))


def _limit(most: float, alarms: float) -> str:
    if most == 1:
        return ""
    if alarms > most:
        return f", where {100 * alarms:.3g}% of empty slices get a mask: no choice has {100 * most:g}% or fewer"
    return f", where at most {100 * most:g}% of empty slices get a mask"


def _false_alarms(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the share of the empty slices that get a mask; 0 without empty slices."""
    empty = ~truth.any((1, 2))
    return float(predicted[empty].any((1, 2)).mean()) if empty.any() else 0.0


def _best_decision(scaled: Logits, images: Images, most: float) -> tuple[float, int]:
    truth = _truth(images)
    _, owner = np.unique(np.asarray(images.groups), return_inverse=True)

    def rank(choice: tuple[float, int]) -> tuple[float, float]:
        predicted = predict(scaled, *choice)
        return -max(_false_alarms(predicted, truth), most), _score(predicted, truth, owner)

    return max(((threshold, smallest) for threshold in _THRESHOLDS for smallest in _SMALLEST), key=rank)


def _score(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], owner: NDArray[np.intp]) -> float:
    """Return the mean volumetric Dice of the patients plus the mean Dice of the slices with tumour."""
    intersection, total = (predicted & truth).sum((1, 2)), predicted.sum((1, 2)) + truth.sum((1, 2))
    patients = 2 * np.bincount(owner, intersection) / np.maximum(np.bincount(owner, total), 1)
    tumour = truth.any((1, 2))
    return float(patients.mean() + (2 * intersection[tumour] / total[tumour]).mean())
