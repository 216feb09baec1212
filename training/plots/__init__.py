"""Plots of an evaluation, as PNG files in a folder."""

from pathlib import Path

import numpy as np

from training.metrics import binary as metrics
from training.metrics.multiclass import Predictions
from training.metrics.overlap import Overlaps
from training.metrics.threshold_sweep import Flags, Floats
from training.plots import classification, segmentation

__all__ = ["binary", "masks", "multiclass"]


def binary(positive: Flags, probability: Floats, threshold: float, labels: tuple[str, str], folder: Path) -> None:
    """Plot the predictions of a classifier with two labels, the negative and the positive; see `metrics.binary`."""
    counts = metrics.confusion(positive, probability >= threshold)
    matrix = np.array([[counts.true_negative, counts.false_positive], [counts.false_negative, counts.true_positive]])
    classification.roc(positive, probability, threshold, folder / "roc.png")
    classification.precision_recall(positive, probability, threshold, folder / "precision-recall.png")
    classification.over_thresholds(positive, probability, threshold, folder / "thresholds.png")
    classification.scores(positive, probability, threshold, labels, folder / "scores.png")
    classification.reliability(positive, probability, folder / "reliability.png", labels[1])
    classification.confusion(matrix, labels, folder / "confusion.png")


def multiclass(predictions: Predictions, folder: Path) -> None:
    """Plot the predictions of a classifier with many labels."""
    correct = predictions.targets == predictions.predicted
    classification.reliability(correct, predictions.confidence, folder / "reliability.png", "correct")
    classification.confusion(predictions.matrix, predictions.labels, folder / "confusion.png")


def masks(overlaps: Overlaps, folder: Path) -> None:
    """Plot a comparison of predicted and true masks."""
    segmentation.dice_per_patient(overlaps.patient_dice, folder / "dice-patients.png")
    segmentation.slice_dice(overlaps.slice_dice[overlaps.truth > 0], folder / "dice-slices.png")
    segmentation.volumes(*overlaps.volumes, folder / "volumes.png")
