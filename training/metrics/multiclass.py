"""Metrics of a classifier with more than two labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics.reliability import bins
from training.metrics.threshold_sweep import Flags, Floats, Ranking, rank, shares

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Predictions:
    """Predictions of N images, prepared for fast resampling; see `predictions`."""

    labels: tuple[str, ...]  # in the order of the probabilities
    targets: Indices  # shape (N,), like the following: index of the true label
    predicted: Indices  # index of the most probable label (the first of several)
    confidence: Floats  # probability of the predicted label
    in_top3: Flags  # whether the true label is among the three most probable
    squared_error: Floats  # difference of probabilities and truth, squared and summed over the labels
    rankings: tuple[Ranking, ...]  # one per label: that label against the rest

    def metrics(self, indices: Indices | None = None) -> dict[str, float]:
        """Compute all metrics of the images at `indices`, with repetitions; by default of all images once.

        Macro metrics are means over the labels, NaN if a label does not occur. The Brier score is the original one,
        summed over the labels (Brier 1950): 0 to 2.
        """
        indices = np.arange(len(self.targets)) if indices is None else indices
        weights = np.bincount(indices, minlength=len(self.targets)).astype(np.float64)
        matrix = confusion(self.targets[indices], self.predicted[indices], len(self.labels))
        sweeps = [ranking.sweep(weights) for ranking in self.rankings]
        hits, actual, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        sensitivity = shares(hits, actual)
        return {
            "accuracy": float(hits.sum() / matrix.sum()),
            "accuracy_top3": float(self.in_top3[indices].mean()),
            "auroc_macro": float(np.mean([sweep.auroc for sweep in sweeps])),
            "average_precision_macro": float(np.mean([sweep.average_precision for sweep in sweeps])),
            "f1_macro": float(shares(2 * hits, actual + predicted).mean()),
            "brier": float(self.squared_error[indices].mean()),
            "ece": bins(self.targets == self.predicted, self.confidence, weights).error,
            **{f"sensitivity_{label}": float(share) for label, share in zip(self.labels, sensitivity, strict=True)},
        }

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Confusion matrix; see `confusion`."""
        return confusion(self.targets, self.predicted, len(self.labels))

    @property
    def confusion_counts(self) -> dict[str, dict[str, int]]:
        """Confusion matrix as true label -> predicted label -> count."""
        rows = (dict(zip(self.labels, counts, strict=True)) for counts in self.matrix.tolist())
        return dict(zip(self.labels, rows, strict=True))


def predictions(targets: NDArray[np.integer], probability: Floats, labels: Sequence[str]) -> Predictions:
    """Prepare predictions from the indices of the true labels, (N,), and the probabilities, (N, labels)."""
    indices = targets.astype(np.intp)
    truth = np.eye(len(labels), dtype=bool)[indices]
    order = np.argsort(-probability, axis=1, kind="stable")
    return Predictions(
        labels=tuple(labels),
        targets=indices,
        predicted=order[:, 0],
        confidence=probability.max(axis=1),
        in_top3=(order[:, :3] == indices[:, None]).any(axis=1),
        squared_error=((probability - truth) ** 2).sum(axis=1),
        rankings=tuple(rank(truth[:, label], probability[:, label]) for label in range(len(labels))),
    )


def confusion(targets: Indices, predicted: Indices, labels: int) -> NDArray[np.int64]:
    """Count predictions, shape (labels, labels): a row per true label, a column per predicted label."""
    return np.bincount(targets * labels + predicted, minlength=labels**2).reshape(labels, labels)
