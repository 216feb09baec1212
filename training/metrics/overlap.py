"""Metrics of masks, from pixel counts of each slice.

The distance is HD95, the 95th percentile Hausdorff distance: the 95th percentile of the distances from each edge pixel
of one mask to the nearest edge pixel of the other, and the larger of both directions (Maier-Hein et al., Metrics
reloaded, Nature Methods 2024). An edge pixel has one of its four neighbours outside the mask.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics.threshold_sweep import Flags, Floats, shares, sums


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of predicted and true masks of N slices, prepared for fast resampling; every array has shape (N,)."""

    intersection: Floats  # pixels in both masks
    predicted: Floats
    truth: Floats
    hd95: Floats
    owner: NDArray[np.intp]  # index of the slice's patient, sorted by name

    @cached_property
    def patient_dice(self) -> Floats:
        """Volumetric Dice of each patient over all slices; NaN if truth and prediction are empty."""
        return _dice(*(sums(self.owner, part) for part in (self.intersection, self.predicted, self.truth)))

    @cached_property
    def slice_dice(self) -> Floats:
        """Dice of each slice; NaN if truth and prediction are empty."""
        return _dice(self.intersection, self.predicted, self.truth)

    @property
    def volumes(self) -> tuple[Floats, Floats]:
        """True and predicted pixels of each patient."""
        return sums(self.owner, self.truth), sums(self.owner, self.predicted)

    def metrics(self, indices: NDArray[np.intp] | None = None) -> dict[str, float]:
        """Compute all metrics of the slices of whole patients, with repetitions; by default of all slices once.

        `dice_patient` is the mean volumetric Dice of the patients over all slices, `dice_slice` the mean Dice of the
        slices with tumour. `hd95` is the mean over slices with tumour, `hd95_found` over those of them with a
        non-empty prediction. `missed_slices` is the share of slices with tumour whose prediction is empty,
        `false_alarms` the share of slices without tumour whose prediction is not. A metric without anything to count is
        NaN.
        """
        indices = np.arange(len(self.owner)) if indices is None else indices
        times = np.bincount(self.owner[indices], minlength=len(self._sizes)) // self._sizes
        dice = np.repeat(self.patient_dice, times)
        dice = dice[~np.isnan(dice)]
        has_tumour = self.truth[indices] > 0
        tumour, empty = indices[has_tumour], indices[~has_tumour]
        detected = self.predicted[tumour] > 0
        intersection = self.intersection[indices].sum()
        return {
            "dice_patient": _mean(dice),
            "dice_patient_median": float(np.median(dice)) if len(dice) else math.nan,
            "dice_slice": _mean(self.slice_dice[tumour]),
            "hd95": _mean(self.hd95[tumour]),
            "hd95_found": _mean(self.hd95[tumour[detected]]),
            "missed_slices": _mean(~detected),
            "false_alarms": _mean(self.predicted[empty] > 0),
            "pixel_sensitivity": _share(intersection, self.truth[indices].sum()),
            "pixel_precision": _share(intersection, self.predicted[indices].sum()),
        }

    @cached_property
    def _sizes(self) -> NDArray[np.intp]:
        return np.bincount(self.owner)


def compare(predicted: Flags, truth: Flags, patients: Sequence[str]) -> Overlaps:
    """Compare masks, shape (N, height, width); `patients` has the patient of each slice."""
    return Overlaps(
        intersection=_pixels(predicted & truth),
        predicted=_pixels(predicted),
        truth=_pixels(truth),
        hd95=np.array([hd95(*masks) for masks in zip(predicted, truth, strict=True)]),
        owner=np.unique(np.asarray(patients), return_inverse=True)[1],
    )


def hd95(predicted: Flags, truth: Flags, spacing: tuple[float, float] = (1, 1)) -> float:
    """Return the distance of two masks (height, width), in the unit of the spacing of rows and columns.

    If the prediction is empty but the truth is not, it is the diagonal of the slice, so that a missed tumour never
    improves a mean. NaN if the truth is empty.
    """
    if not truth.any():
        return math.nan
    if not predicted.any():
        return math.hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1])
    # All edges are inside the bounding box of both masks, so cropping to it changes no distance.
    (box,) = ndimage.find_objects((predicted | truth).astype(np.uint8))
    predicted_edge, true_edge = _edge(predicted[box]), _edge(truth[box])
    return max(_directed(predicted_edge, true_edge, spacing), _directed(true_edge, predicted_edge, spacing))


def _pixels(masks: Flags) -> Floats:
    counts: Floats = masks.sum((1, 2), dtype=np.float64)
    return counts


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
