"""Pictures of predicted masks against true ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.metrics.threshold_sweep import Flags, Floats
from training.plots.canvas import BLUE, GRAY, ORANGE, axes, picture

_COLUMNS: Final = 4


def dice_per_patient(dice: Floats, path: Path) -> None:
    """Volumetric Dice of each patient, the worst first, with their mean; NaN is left out."""
    dice = np.sort(dice[~np.isnan(dice)])
    title = f"Volumetric Dice of {len(dice)} patients, over all slices"
    with axes(path, title, "patients, worst first", "Dice", width=6) as ax:
        ax.bar(np.arange(len(dice)), dice, color=BLUE, alpha=0.75, edgecolor="black", linewidth=0.5)
        for name, line, value in _middles(dice):
            ax.axhline(value, linestyle=line, color="black", label=f"{name} {value:.3f}")
        ax.set(ylim=(0, 1), xticks=[])
        if len(dice):
            ax.legend(loc="lower right")


def slice_dice(dice: Floats, path: Path) -> None:
    """Histogram of the Dice of slices that show a tumour."""
    title = f"Dice of {len(dice)} slices that show a tumour"
    with axes(path, title, "Dice", "slices") as ax:
        ax.hist(dice, np.linspace(0, 1, 21).tolist(), color=BLUE, alpha=0.75, edgecolor="black", linewidth=0.5)
        for name, line, value in _middles(dice):
            ax.axvline(value, linestyle=line, color="black", label=f"{name} {value:.3f}")
        ax.set_xlim(0, 1)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(dice):
            ax.legend(loc="upper left")


def volumes(truth: Floats, predicted: Floats, path: Path, unit: str = "pixels") -> None:
    """Predicted against true volume, a point a patient; both have shape (patients,)."""
    most = max(float(truth.max()), float(predicted.max()), 1.0) * 1.05
    with axes(path, "Volume of each patient", f"true volume, {unit}", f"predicted volume, {unit}") as ax:
        ax.plot([0, most], [0, most], ":", color=GRAY, linewidth=1, label="equal")
        ax.plot(truth, predicted, "o", color=BLUE, alpha=0.75, markeredgecolor="black", markersize=6)
        ax.set(xlim=(0, most), ylim=(0, most))
        ax.ticklabel_format(style="sci", scilimits=(-3, 4))
        ax.set_aspect("equal")
        ax.legend(loc="upper left")


def overlays(
    images: Sequence[NDArray[np.uint8]],
    truth: Sequence[Flags],
    predicted: Sequence[Flags],
    titles: Sequence[str],
    path: Path,
) -> None:
    """Slices with the outlines of both masks. For a result folder: it shows images of the data.

    Parameters
    ----------
    images
        At least one, each of shape (height, width) or (height, width, 3).
    truth, predicted
        Shape (height, width), each.
    """
    rows, columns = math.ceil(len(images) / _COLUMNS), min(_COLUMNS, len(images))
    with picture(path, 2.4 * columns, 2.6 * rows + 0.4) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in grid:
            ax.set_axis_off()
        for ax, image, right, told, title in zip(grid, images, truth, predicted, titles, strict=False):
            ax.imshow(image, cmap="gray", vmin=0, vmax=255)
            for mask, color, line in ((right, ORANGE, "solid"), (told, "white", "dashed")):
                if mask.any():
                    ax.contour(mask, levels=[0.5], colors=color, linestyles=line, linewidths=1.4)
            ax.set_title(title, fontsize=9)
        figure.supxlabel("solid orange: true outline; dashed white: predicted", fontsize=9)


def _middles(values: Floats) -> list[tuple[str, str, float]]:
    """Name, line and value of mean and median; nothing where there are no values."""
    if not len(values):
        return []
    return [("mean", "--", float(values.mean())), ("median", ":", float(np.median(values)))]
