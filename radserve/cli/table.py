"""Writes outcomes as a table to standard output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from radserve.cli.report import Outcome, Problem, encodable
from radserve.schema.prediction import ImageResult, ModelReference, Prediction
from radserve.schema.segmentation import Segmentation

_PAGE: Final = 1000
_PIPE_WIDTH: Final = 400


@dataclass(frozen=True)
class _Column:
    """Column; omitted from a page if it is empty, unless `always`."""

    name: str
    right: bool = False
    always: bool = False


_COLUMNS: Final = (
    _Column("File", always=True),
    _Column("Label", always=True),
    _Column("Warning"),
    _Column("Probability", right=True),
    _Column("Area", right=True),
    _Column("mm²", right=True),
    _Column("Box", right=True),
    _Column("Positive", right=True),
    _Column("Threshold", right=True),
    _Column("Version", right=True),
    _Column("Problem"),
)
_Cells = dict[str, Text]


class Table:
    """Table in pages of 1000 rows; keeps only the cells of a result in memory."""

    streams = False

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _PIPE_WIDTH
        self._rows: list[_Cells] = []
        self._models: set[ModelReference] = set()

    def add(self, outcome: Outcome) -> bool:
        """See `radserve.cli.report.Report`."""
        if isinstance(outcome.result, ImageResult):
            self._models.add(outcome.result.model)
        self._rows.append({"File": safe(outcome.file)} | _cells(outcome.result))
        return len(self._rows) >= _PAGE

    def flush(self) -> None:
        """See `radserve.cli.report.Report`."""
        if self._rows:
            self._console.print(_table(self._rows))
            for model in sorted(self._models, key=lambda model: (model.name, model.version)):
                line = f"{model.name} {model.version}, archive sha256 {model.sha256 or 'unknown'}"
                self._console.print(safe(line), soft_wrap=True)
        self._rows.clear()
        self._models.clear()


def _table(rows: list[_Cells]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [column for column in _COLUMNS if column.always or any(column.name in row for row in rows)]
    for column in columns:
        if column.right:
            table.add_column(column.name, justify="right", no_wrap=True)
        else:
            table.add_column(column.name, overflow="fold", min_width=None if column.always else 24)
    for row in rows:
        table.add_row(*(row.get(column.name, Text()) for column in columns))
    return table


def _cells(result: Prediction | Segmentation | Problem) -> _Cells:
    if isinstance(result, Problem):
        return {"Label": safe("NO RESULT", "bold red"), "Problem": safe(str(result), "red")}
    cells = {"Label": safe(result.label), "Version": safe(result.model.version)}
    if isinstance(result, Prediction):
        cells["Probability"] = safe(share(result.probability))
        if result.threshold is not None:
            cells["Threshold"] = safe(f"{result.threshold:.1%}")
    else:
        cells |= _extent(result)
    if result.positive is not None:
        cells["Positive"] = safe("yes", "bold yellow") if result.positive else safe("no")
    if result.warning is None:
        return cells
    dimmed = {name: safe(cell.plain, "dim") for name, cell in cells.items()}
    return dimmed | {"Warning": safe(result.warning, "bold red")}


def _extent(result: Segmentation) -> _Cells:
    cells = {"Area": safe(fraction(result.area.fraction))}
    if result.area.mm2 is not None:
        cells["mm²"] = safe(f"{result.area.mm2:.1f}")
    if result.box is not None:
        cells["Box"] = safe(f"{result.box.width} x {result.box.height} at {result.box.left}, {result.box.top}")
    return cells


def share(probability: float) -> str:
    """Format a probability; rounding never gives 0% or 100%."""
    if probability > 0.9994:
        return ">99.9%"
    return "<0.1%" if probability < 0.0006 else f"{probability:.1%}"


def fraction(area: float) -> str:
    """Format the marked part of an image; rounding never gives 0% for a marked pixel."""
    return "<0.01%" if 0 < area < 0.00005 else f"{area:.2%}"


def safe(text: str, style: str = "") -> Text:
    """Return text without markup, with control characters escaped."""
    printable = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return Text(encodable(printable), style)
