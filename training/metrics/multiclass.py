"""Figures of a classifier with more than two labels, from the definitions.

`targets` are the places of the right labels, shape (N,); `probability` what the model gives each label,
shape (N, labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics.reliability import bins
from training.metrics.threshold_sweep import Flags, Floats, Ranking, rank, shares

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Answers:
    """What a classifier says of images, prepared once so that drawing them anew is cheap.

    Attributes
    ----------
    labels
        In the order of the probabilities.
    right
        Shape (N,): places of the right labels.
    told
        Shape (N,): place of the most probable label, the first of several.
    confidence
        Shape (N,): its probability.
    near
        Shape (N,): whether the right label is among the three most probable.
    distance
        Shape (N,): squared distance of the probabilities and the truth, summed over the labels.
    rankings
        One a label, that label against the rest.
    """

    labels: tuple[str, ...]
    right: Places
    told: Places
    confidence: Floats
    near: Flags
    distance: Floats
    rankings: tuple[Ranking, ...]

    def figures(self, places: Places | None = None) -> dict[str, float]:
        """Every figure at once.

        Macro figures are means over the labels; one that a label lacks (none of it was drawn) is NaN. The
        Brier score is the original one, summed over the labels (Brier 1950): 0 to 2.

        Parameters
        ----------
        places
            Of the images that count, as often as they stand there; all of them once without it.
        """
        places = np.arange(len(self.right)) if places is None else places
        weights = np.bincount(places, minlength=len(self.right)).astype(np.float64)
        matrix = confusion(self.right[places], self.told[places], len(self.labels))
        sweeps = [ranking.sweep(weights) for ranking in self.rankings]
        hits, present, answered = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        sensitivity = shares(hits, present)
        return {
            "accuracy": float(hits.sum() / matrix.sum()),
            "accuracy_top3": float(self.near[places].mean()),
            "auroc_macro": float(np.mean([sweep.auroc for sweep in sweeps])),
            "average_precision_macro": float(np.mean([sweep.average_precision for sweep in sweeps])),
            "f1_macro": float(shares(2 * hits, present + answered).mean()),
            "brier": float(self.distance[places].mean()),
            "ece": bins(self.right == self.told, self.confidence, weights).error,
            **{f"sensitivity_{label}": float(share) for label, share in zip(self.labels, sensitivity, strict=True)},
        }

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Confusion matrix; see `confusion`."""
        return confusion(self.right, self.told, len(self.labels))


def answers(targets: NDArray[np.integer], probability: Floats, labels: Sequence[str]) -> Answers:
    """Prepare; shapes as at the head of this module."""
    right = targets.astype(np.intp)
    truth = np.eye(len(labels), dtype=bool)[right]
    order = np.argsort(-probability, axis=1, kind="stable")
    return Answers(
        labels=tuple(labels),
        right=right,
        told=order[:, 0],
        confidence=probability.max(axis=1),
        near=(order[:, :3] == right[:, None]).any(axis=1),
        distance=((probability - truth) ** 2).sum(axis=1),
        rankings=tuple(rank(truth[:, label], probability[:, label]) for label in range(len(labels))),
    )


def confusion(right: Places, told: Places, labels: int) -> NDArray[np.int64]:
    """Count.

    Returns
    -------
    Shape (labels, labels): a row a right label, a column a label that was told.
    """
    return np.bincount(right * labels + told, minlength=labels**2).reshape(labels, labels)


def confusion_counts(answers: Answers) -> dict[str, dict[str, int]]:
    """Give the confusion matrix as right label -> label that was told -> count."""
    rows = (dict(zip(answers.labels, counts, strict=True)) for counts in answers.matrix.tolist())
    return dict(zip(answers.labels, rows, strict=True))
