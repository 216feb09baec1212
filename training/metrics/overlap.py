"""Figures of masks, from counts of pixels that are made once a slice.

The distance is HD95, the 95th percentile Hausdorff distance: of each mask's edge pixels the distance to the
nearest edge pixel of the other mask, its 95th percentile, the larger of the two directions (Maier-Hein et al.,
Metrics reloaded, Nature Methods 2024). An edge pixel has one of its four neighbours outside of the mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics.threshold_sweep import Flags, Floats, shares, sums


@dataclass(frozen=True)
class Overlap:
    """A predicted mask against the true one.

    Attributes
    ----------
    intersection, predicted, truth
        Pixels in both, in the predicted, in the true mask.
    hd95
        In pixels, or in the unit of the spacing. Nothing predicted where something is: the diagonal of the
        slice, the longest distance there is, so that a missed tumour never improves a mean. NaN where
        the true mask is empty: what is predicted there is a false alarm, no distance.
    """

    intersection: int
    predicted: int
    truth: int
    hd95: float


def overlap(predicted: Flags, truth: Flags, spacing: tuple[float, float] = (1, 1)) -> Overlap:
    """Compare two masks.

    Parameters
    ----------
    predicted, truth
        Shape (height, width), both.
    spacing
        Of rows and of columns: the distance of neighbouring pixels.
    """
    return Overlap(
        intersection=int((predicted & truth).sum()),
        predicted=int(predicted.sum()),
        truth=int(truth.sum()),
        hd95=_hd95(predicted, truth, spacing),
    )


@dataclass(frozen=True)
class Overlaps:
    """All slices of a validation side, ready to be drawn anew; see `gather`.

    Attributes
    ----------
    intersection, predicted, truth, hd95
        Of `Overlap`, shape (N,).
    owner
        Shape (N,): place of the slice's patient, in the order of the sorted names.
    """

    intersection: Floats
    predicted: Floats
    truth: Floats
    hd95: Floats
    owner: NDArray[np.intp]

    @cached_property
    def patient_dice(self) -> Floats:
        """Volumetric Dice of each patient over all slices; NaN where nothing is and nothing was predicted."""
        return _dice(*(sums(self.owner, part) for part in self._parts))

    @cached_property
    def slice_dice(self) -> Floats:
        """Dice of each slice; NaN where nothing is and nothing was predicted."""
        return _dice(*self._parts)

    @property
    def volumes(self) -> tuple[Floats, Floats]:
        """True and predicted pixels of each patient."""
        return sums(self.owner, self.truth), sums(self.owner, self.predicted)

    def figures(self, places: NDArray[np.intp] | None = None) -> dict[str, float]:
        """Every figure at once; one that has nothing to count is NaN.

        `dice_patient` is the mean volumetric Dice of the patients, over all of their slices, `dice_slice` the
        mean Dice of the slices that show a tumour. `hd95` is a mean over those as well, `hd95_found`
        over those of them in which anything was predicted. `missed_slices` is the share of them in which
        nothing was, `false_alarms` the share of slices without a tumour in which something was.

        Parameters
        ----------
        places
            Of the slices that count, whole patients, each as often as it was drawn; all of them without it.
        """
        places = np.arange(len(self.owner)) if places is None else places
        times = np.bincount(self.owner[places], minlength=len(self._sizes)) // self._sizes
        dice = np.repeat(self.patient_dice, times)
        dice = dice[~np.isnan(dice)]
        shown = self.truth[places] > 0
        tumour, empty = places[shown], places[~shown]
        found = self.predicted[tumour] > 0
        intersection = self.intersection[places].sum()
        return {
            "dice_patient": _mean(dice),
            "dice_patient_median": float(np.median(dice)) if len(dice) else math.nan,
            "dice_slice": _mean(self.slice_dice[tumour]),
            "hd95": _mean(self.hd95[tumour]),
            "hd95_found": _mean(self.hd95[tumour[found]]),
            "missed_slices": _mean(~found),
            "false_alarms": _mean(self.predicted[empty] > 0),
            "pixel_sensitivity": _share(intersection, self.truth[places].sum()),
            "pixel_precision": _share(intersection, self.predicted[places].sum()),
        }

    @property
    def _parts(self) -> tuple[Floats, Floats, Floats]:
        return self.intersection, self.predicted, self.truth

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        return np.bincount(self.owner)


def gather(slices: Sequence[Overlap], patients: Sequence[str]) -> Overlaps:
    """Put slices together.

    Parameters
    ----------
    patients
        Of each slice.
    """
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    return Overlaps(
        intersection=np.array([each.intersection for each in slices], dtype=np.float64),
        predicted=np.array([each.predicted for each in slices], dtype=np.float64),
        truth=np.array([each.truth for each in slices], dtype=np.float64),
        hd95=np.array([each.hd95 for each in slices], dtype=np.float64),
        owner=owner,
    )


def _hd95(predicted: Flags, truth: Flags, spacing: tuple[float, float]) -> float:
    if not truth.any():
        return math.nan
    if not predicted.any():
        return math.hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1])
    # All edges lie in the box around both masks; no distance changes when the rest is cut off.
    (box,) = ndimage.find_objects((predicted | truth).astype(np.uint8))
    ours, theirs = _edge(predicted[box]), _edge(truth[box])
    return max(_directed(ours, theirs, spacing), _directed(theirs, ours, spacing))


def _edge(mask: Flags) -> Flags:
    edge: Flags = mask & ~ndimage.binary_erosion(mask)
    return edge


def _directed(start: Flags, goal: Flags, spacing: tuple[float, float]) -> float:
    distances = ndimage.distance_transform_edt(~goal, sampling=spacing)
    return float(np.percentile(distances[start], 95))


def _dice(intersection: Floats, predicted: Floats, truth: Floats) -> Floats:
    return shares(2 * intersection, predicted + truth)


def _mean(values: Floats | Flags) -> float:
    return float(values.mean()) if len(values) else math.nan


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
