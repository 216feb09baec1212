"""One picture: made without pyplot's state, the same bytes each time, readable in gray print."""

from __future__ import annotations

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
"""Of the palette of Okabe and Ito (2008): told apart by all eyes, and by their lightness in gray."""

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
    """Give an empty figure; what is drawn on it becomes a PNG when the block ends.

    Parameters
    ----------
    width, height
        In inches.
    """
    # matplotlib's own defaults come first, so that no file in a home folder changes a picture.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        yield figure
        figure.savefig(path, format="png", metadata={"Software": None})


@contextmanager
def axes(path: Path, title: str, x: str, y: str, width: float = 5, height: float = 4) -> Iterator[Axes]:
    """Give one pair of axes on a picture of its own; see `picture`."""
    with picture(path, width, height) as figure:
        found = figure.subplots()
        found.set(title=title, xlabel=x, ylabel=y)
        yield found
