"""Plots of a classifier: curves, histograms, matrices.

As in `training.metrics.binary`, `positive` is the truth and `probability` the prediction, both of shape (N,).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from training.metrics import binary
from training.metrics.reliability import bins
from training.metrics.threshold_sweep import Flags, Floats, rank
from training.plots.canvas import BLUE, GRAY, ORANGE, axes, picture


def roc(positive: Flags, probability: Floats, threshold: float, path: Path) -> None:
    """Plot sensitivity against false alarms, and mark the threshold."""
    sweep, counts = rank(positive, probability).sweep(), binary.confusion(positive, probability >= threshold)
    with axes(path, f"ROC, area {sweep.auroc:.3f}", "1 - specificity", "sensitivity") as ax:
        ax.plot([0, 1], [0, 1], ":", color=GRAY, linewidth=1, label="chance")
        ax.plot([0, *(1 - sweep.specificity)], [0, *sweep.sensitivity], color=BLUE)
        _mark(ax, 1 - counts.specificity, counts.sensitivity, threshold)
        _unit(ax)
        ax.set_aspect("equal")
        ax.legend(loc="lower right")


def precision_recall(positive: Flags, probability: Floats, threshold: float, path: Path) -> None:
    """Plot precision against sensitivity, and mark the threshold."""
    sweep, counts = rank(positive, probability).sweep(), binary.confusion(positive, probability >= threshold)
    title = f"Precision and recall, average precision {sweep.average_precision:.3f}"
    with axes(path, title, "recall (sensitivity)", "precision") as ax:
        ax.axhline(float(positive.mean()), linestyle=":", color=GRAY, linewidth=1, label="chance")
        ax.step([0, *sweep.sensitivity], [1, *sweep.precision], where="pre", color=BLUE)
        _mark(ax, counts.sensitivity, counts.precision, threshold)
        _unit(ax)
        ax.legend(loc="lower left")


def over_thresholds(positive: Flags, probability: Floats, threshold: float, path: Path) -> None:
    """Plot sensitivity and specificity over all thresholds."""
    sweep = rank(positive, probability).sweep()
    with axes(path, "Sensitivity and specificity by threshold", "threshold", "share") as ax:
        levels = [1, *sweep.thresholds, 0]
        sensitivity, specificity = [0, *sweep.sensitivity, 1], [1, *sweep.specificity, 0]
        ax.step(levels, sensitivity, where="post", color=BLUE, label="sensitivity")
        ax.step(levels, specificity, "--", where="post", color=ORANGE, label="specificity")
        _line(ax, threshold)
        _unit(ax)
        ax.legend(loc="lower center")


def scores(positive: Flags, probability: Floats, threshold: float, labels: tuple[str, str], path: Path) -> None:
    """Plot a histogram of the probability for each true label, the negative and the positive."""
    edges = np.linspace(0, 1, 41)
    with axes(path, "Probabilities by true label", f"probability of {labels[1]}", "share of images") as ax:
        for subset, label, color, hatch in ((~positive, labels[0], ORANGE, "///"), (positive, labels[1], BLUE, "")):
            shares = np.histogram(probability[subset], edges)[0] / max(1, int(subset.sum()))
            ax.stairs(
                shares,
                edges,
                fill=True,
                alpha=0.55,
                facecolor=color,
                edgecolor="black",
                hatch=hatch,
                label=f"truth: {label}",
            )
        _line(ax, threshold)
        ax.set_xlim(0, 1)
        ax.legend(loc="upper center")


def reliability(positive: Flags, probability: Floats, path: Path, what: str = "positive") -> None:
    """Plot the observed share for each probability, with the counts below; see `training.metrics.reliability`."""
    counts = bins(positive, probability)
    filled = counts.weight > 0
    edges = np.linspace(0, 1, len(counts.weight) + 1)
    with picture(path, 5, 5) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], ":", color=GRAY, linewidth=1, label="ideal")
        expected, share = (part[filled] / counts.weight[filled] for part in (counts.expected, counts.observed))
        above.plot(expected, share, "o-", color=BLUE, markersize=5, label="observed")
        above.set(title=f"Reliability, calibration error {counts.error:.3f}", ylabel=f"share {what}")
        _unit(above)
        above.legend(loc="upper left")
        below.stairs(counts.weight, edges, fill=True, facecolor=BLUE, alpha=0.55, edgecolor="black")
        below.set(yscale="symlog", ylim=(0, None), xlabel="predicted probability", ylabel="images")


def confusion(matrix: NDArray[np.integer], labels: Sequence[str], path: Path) -> None:
    """Plot the confusion matrix, a row per true label; the shade is the share of the true label."""
    size = 2.6 + 0.55 * len(labels)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with axes(path, "Confusion matrix", "predicted", "true", size, size) as ax:
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        tilt = 45 if len(labels) > 2 else 0
        ax.set_xticks(range(len(labels)), labels, rotation=tilt, ha="right" if tilt else "center")
        ax.set_yticks(range(len(labels)), labels)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        for (row, column), count in np.ndenumerate(matrix):
            shade = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, str(count), ha="center", va="center", color=shade)


def _mark(ax: Axes, x: float, y: float, threshold: float) -> None:
    ax.plot([x], [y], "o", color=ORANGE, markeredgecolor="black", markersize=8, label=f"threshold {threshold:.3f}")


def _line(ax: Axes, threshold: float) -> None:
    ax.axvline(threshold, linestyle="-.", color="black", linewidth=1, label=f"threshold {threshold:.3f}")


def _unit(ax: Axes) -> None:
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
