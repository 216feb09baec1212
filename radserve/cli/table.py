"""Outcomes as a table for people, on standard output."""

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
    """One column; shown in a page where any of its cells says something."""

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
    _Column("Why there is no answer"),
)
_Cells = dict[str, Text]


class Table:
    """A table in pages, so that a large folder does not have to fit into memory; of an answer only its row is kept."""

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
            for line in sorted(map(_described, self._models)):
                self._console.print(safe(line), soft_wrap=True)
        self._rows.clear()
        self._models.clear()


def _described(model: ModelReference) -> str:
    return f"{model.name} {model.version}, archive sha256 {model.sha256 or 'unknown'}"


def _table(rows: list[_Cells]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [column for column in _COLUMNS if column.always or any(column.name in row for row in rows)]
    for column in shown:
        if column.right:
            table.add_column(column.name, justify="right", no_wrap=True)
        else:
            table.add_column(column.name, overflow="fold", min_width=None if column.always else 24)
    for row in rows:
        table.add_row(*(row.get(column.name, Text()) for column in shown))
    return table


def _cells(result: Prediction | Segmentation | Problem) -> _Cells:
    if isinstance(result, Problem):
        return {"Label": safe("NO ANSWER", "bold red"), "Why there is no answer": safe(str(result), "red")}
    special = _shares(result) if isinstance(result, Prediction) else _extent(result)
    cells = {"Label": safe(result.label), "Version": safe(result.model.version)} | special
    if result.positive is not None:
        cells["Positive"] = safe("yes", "bold yellow") if result.positive else safe("no")
    if result.warning is None:
        return cells
    # What must not be relied on does not stand there as if it could be.
    return {name: safe(cell.plain, "dim") for name, cell in cells.items()} | {
        "Warning": safe(result.warning, "bold red")
    }


def _shares(answer: Prediction) -> dict[str, Text]:
    cells = {"Probability": safe(share(answer.probability))}
    return cells if answer.threshold is None else cells | {"Threshold": safe(f"{answer.threshold:.1%}")}


def _extent(answer: Segmentation) -> dict[str, Text]:
    cells = {"Area": safe(fraction(answer.area.fraction))}
    if answer.area.mm2 is not None:
        cells["mm²"] = safe(f"{answer.area.mm2:.1f}")
    if answer.box is not None:
        found = answer.box
        cells["Box"] = safe(f"{found.width} x {found.height} at {found.left}, {found.top}")
    return cells


def share(probability: float) -> str:
    """Format a probability; rounding must not turn it into certainty."""
    if probability > 0.9994:
        return ">99.9%"
    return "<0.1%" if probability < 0.0006 else f"{probability:.1%}"


def fraction(area: float) -> str:
    """Format the share of an image that is marked; rounding must not turn little into nothing."""
    return "<0.01%" if 0 < area < 0.00005 else f"{area:.2%}"


def safe(text: str, style: str = "") -> Text:
    """Show any text as it is: no markup, and no control character reaches the terminal."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return Text(encodable(shown), style)
