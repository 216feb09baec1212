"""Judge of answers that are masks."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handlers.recipe import Calibration, Recipe
from training import plots as drawing
from training.batches import Images
from training.evaluators import Logits, Verdict
from training.metrics import bootstrap, calibration, overlap
from training.settings import Settings

_THRESHOLDS: Final = tuple(round(0.1 * step, 1) for step in range(2, 9))
_SMALLEST: Final = (1, 8, 16, 32, 64, 96)
_PIXELS: Final = 500_000
"""Pixels that the temperature is fitted on; all would say the same."""


class Masks:
    """See `training.evaluators.Judge`; figures are of masks in the network's geometry."""

    def offset(self, logits: Logits, images: Images) -> float:
        """Leave the network as it is."""
        del logits, images
        return 0.0

    def choose(self, recipe: Recipe, settings: Settings, logits: Logits, images: Images, count: str) -> Recipe:
        """Temperature of the pixels, then threshold and smallest mask with the highest Dice."""
        del settings
        assert recipe.decision is not None
        fitted = round(_temperature(logits, images), 4)
        limit, smallest = _best(logits / fitted, images)
        chosen = f"With the smallest mask of {smallest} pixels, highest sum of Dice by patient and by slice on {count}."
        words = f"Least negative log-likelihood of pixels on {count}."
        update = {"threshold": limit, "smallest": smallest, "chosen": chosen}
        return recipe.model_copy(
            update={
                "calibration": Calibration(temperature=fitted, fitted=words),
                "decision": recipe.decision.model_copy(update=update),
            }
        )

    def measure(self, recipe: Recipe, logits: Logits, images: Images, seed: int) -> Verdict:
        """Measure by patient and by slice."""
        assert recipe.decision is not None
        decision, truth = recipe.decision, _truth(images)
        found = predict(logits / recipe.calibration.temperature, decision.threshold, decision.smallest)
        slices = [overlap.overlap(one, other) for one, other in zip(found, truth, strict=True)]
        gathered = overlap.gather(slices, images.groups)
        measured = bootstrap.intervals(gathered.figures, images.groups, seed)
        return Verdict(
            figures={name: bootstrap.rounded(interval) for name, interval in measured.items()},
            confusion=None,
            plot=lambda folder: drawing.masks(gathered, folder),
        )


def predict(scaled: Logits, threshold: float, smallest: int) -> NDArray[np.bool_]:
    """Logits (N, 1, height, width), already divided by the temperature, to masks (N, height, width)."""
    found: NDArray[np.bool_] = scaled[:, 0] >= np.log(threshold / (1 - threshold))
    found[found.sum((1, 2)) < smallest] = False
    return found


def _truth(images: Images) -> NDArray[np.bool_]:
    assert images.masks is not None
    return images.masks[:, 0].bool().numpy()


def _temperature(logits: Logits, images: Images) -> float:
    flat, truth = logits.ravel(), _truth(images).ravel()
    # A stride that is no multiple of a row visits every column.
    step = max(1, len(flat) // _PIXELS) | 1
    pairs = np.stack([np.zeros_like(flat[::step]), flat[::step]], axis=1).astype(np.float64)
    return calibration.temperature(pairs, truth[::step].astype(np.int64))


def _best(scaled: Logits, images: Images) -> tuple[float, int]:
    truth = _truth(images)
    _, owner = np.unique(np.asarray(images.groups), return_inverse=True)
    choices = [(limit, smallest) for limit in _THRESHOLDS for smallest in _SMALLEST]
    return max(choices, key=lambda choice: _score(predict(scaled, *choice), truth, owner))


def _score(found: NDArray[np.bool_], truth: NDArray[np.bool_], owner: NDArray[np.intp]) -> float:
    """Mean volumetric Dice of the patients, and mean Dice of the slices with a tumour, added."""
    both, each = (found & truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
    patients = 2 * np.bincount(owner, both) / np.maximum(np.bincount(owner, each), 1)
    shown = truth.any((1, 2))
    return float(patients.mean() + (2 * both[shown] / each[shown]).mean())
