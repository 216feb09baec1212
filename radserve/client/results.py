"""Results of several images."""

from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Final

from radserve.client.predictions import Result
from radserve.schema import columns
from radserve.schema.problem import RejectedImage
from radserve.schema.segmentation import Volume

if TYPE_CHECKING:
    import pandas as pd

_SHOWN: Final = 20  # cards in a notebook


class Results(list[Result]):
    """Results in the order of the images; `Results([...])` collects those of several calls.

    `volume` is that of the frames of one file, if a segmentation model measured it.
    """

    def __init__(self, results: Iterable[Result] = (), volume: Volume | None = None) -> None:
        super().__init__(results)
        self.volume = volume

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one row per image, rejected ones included; raises InvalidCallError without pandas.

        `file` is the path of the image, if it was one. The columns are those of `radserve predict --csv`.
        """
        return columns.frame(item.row() for item in self)

    def _repr_html_(self) -> str:
        counts = Counter(_kind(item) for item in self)
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        shown = f" The first {_SHOWN} of {len(self)}:" if len(self) > _SHOWN else ""
        cards = "".join(item._repr_html_() for item in self[:_SHOWN])
        return f"<div>{escape(summary or 'No images')}.{shown}</div>{cards}"


def _kind(item: Result) -> str:
    """Return what to count a result as; a doubtful label is not counted as a finding."""
    if isinstance(item, RejectedImage):
        return "could not be analysed"
    return "doubtful" if item.doubts else item.label
