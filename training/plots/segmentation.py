"""Plots of predicted and true masks."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from training.metrics.threshold_sweep import Floats
from training.plots.canvas import BLUE, GRAY, axes


def dice_per_patient(dice: Floats, path: Path) -> None:
    """Plot the volumetric Dice of each patient, in ascending order, without NaN."""
    dice = np.sort(dice[~np.isnan(dice)])
    title = f"Volumetric Dice of {len(dice)} patients, over all slices"
    with axes(path, title, "patients, in ascending order", "Dice", width=6) as ax:
        ax.bar(np.arange(len(dice)), dice, color=BLUE, alpha=0.75, edgecolor="black", linewidth=0.5)
        for name, line, value in _averages(dice):
            ax.axhline(value, linestyle=line, color="black", label=f"{name} {value:.3f}")
        ax.set(ylim=(0, 1), xticks=[])
        if len(dice):
            ax.legend(loc="lower right")


def slice_dice(dice: Floats, path: Path) -> None:
    """Plot a histogram of the Dice of the slices with tumour."""
    title = f"Dice of {len(dice)} slices with tumour"
    with axes(path, title, "Dice", "slices") as ax:
        ax.hist(dice, np.linspace(0, 1, 21).tolist(), color=BLUE, alpha=0.75, edgecolor="black", linewidth=0.5)
        for name, line, value in _averages(dice):
            ax.axvline(value, linestyle=line, color="black", label=f"{name} {value:.3f}")
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(dice):
            ax.legend(loc="upper left")


def volumes(truth: Floats, predicted: Floats, path: Path, unit: str = "pixels") -> None:
    """Plot predicted against true volume, a point per patient; both have shape (patients,)."""
    most = max(float(truth.max()), float(predicted.max()), 1.0) * 1.05
    with axes(path, "Volume of each patient", f"true volume, {unit}", f"predicted volume, {unit}") as ax:
        ax.plot([0, most], [0, most], ":", color=GRAY, linewidth=1, label="equal")
        ax.plot(truth, predicted, "o", color=BLUE, alpha=0.75, markeredgecolor="black", markersize=6)
        ax.set(xlim=(0, most), ylim=(0, most))
        ax.ticklabel_format(style="sci", scilimits=(-3, 4))
        ax.set_aspect("equal")
        ax.legend(loc="upper left")


def _averages(values: Floats) -> list[tuple[str, str, float]]:
    """Return name, line style and value of mean and median; empty without values."""
    if not len(values):
        return []
    return [("mean", "--", float(values.mean())), ("median", ":", float(np.median(values)))]
