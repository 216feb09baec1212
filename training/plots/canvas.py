"""Canvas of a plot: without pyplot's global state, with reproducible bytes, readable in grayscale."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GRAY: Final = "#555555"
"""Palette of Okabe and Ito (2008): distinguishable with colour blindness, and by lightness in grayscale."""

_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.framealpha": 1,
    "legend.edgecolor": "white",
    "lines.linewidth": 1.8,
    "hatch.linewidth": 0.6,
}


@contextmanager
def picture(path: Path, width: float = 5, height: float = 4, dpi: int = 120) -> Iterator[Figure]:
    """Provide an empty figure of a size in inches, which is saved as a PNG at the end of the block."""
    # Start from matplotlib's defaults, so that a configuration file of the user does not change plots.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        yield figure
        figure.savefig(path, format="png", metadata={"Software": None})


@contextmanager
def axes(path: Path, title: str, x: str, y: str, width: float = 5, height: float = 4) -> Iterator[Axes]:
    """Provide a figure with a single plot; see `picture`."""
    with picture(path, width, height) as figure:
        plot = figure.subplots()
        plot.set(title=title, xlabel=x, ylabel=y)
        yield plot
