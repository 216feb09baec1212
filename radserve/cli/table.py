"""Writes outcomes as a table to a terminal, or as tab-separated lines to a pipe or file."""

import sys
from collections import Counter
from typing import Final

import typer
from rich.table import Table as RichTable
from rich.text import Text

from radserve.cli import terminal
from radserve.cli.report import Outcome, Problem, Report
from radserve.cli.terminal import counted, encodable, safe
from radserve.schema.percentage import percentage
from radserve.schema.prediction import ImageResult, ModelReference, Prediction
from radserve.schema.segmentation import Segmentation

_PAGE: Final = 1000
_COLUMNS: Final = (
    *("File", "Label", "Domain", "Repair", "Warning", "Model output", ">Probability", ">Area", ">mm²", ">Box"),
    *(">Positive", ">Threshold", ">Version", "Problem"),
)
"""As for `terminal.table`; except for the first two, empty ones are omitted from a page on a terminal."""
_NAMES: Final = tuple(name.removeprefix(">") for name in _COLUMNS)
_MIN_WIDTH: Final = 24  # characters of the columns with sentences


class Table(Report):
    """Table in pages of 1000 rows; keeps only the cells of a result in memory.

    Without a terminal, each result is one line with all columns, so that `cut`, `grep` and spreadsheets read it; what
    is below the table goes to standard error.
    """

    streams = False

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()  # unlike rich's test, whatever FORCE_COLOR says
        self._console = terminal.console(stderr=not self._is_terminal)
        self._has_header = False
        self._rows: list[dict[str, Text]] = []
        self._models: set[ModelReference] = set()
        self._prevalence: set[float] = set()
        self._unchecked: Counter[str] = Counter()  # attribute -> images of which it is unknown
        self._notes: Counter[str] = Counter()  # sentence -> images that it is about

    def add(self, outcome: Outcome) -> bool:
        """Keep a row until the page is full."""
        if isinstance(outcome.result, ImageResult):
            self._models.add(outcome.result.model)
            self._unchecked.update(outcome.result.unchecked)
            self._notes.update(outcome.result.notes)
        if isinstance(outcome.result, Prediction):
            self._prevalence.update(filter(None, [outcome.result.prevalence]))
            self._notes.update(filter(None, [outcome.result.contradiction]))
        self._rows.append({"File": safe(outcome.file)} | _cells(outcome.result))
        return len(self._rows) >= _PAGE

    def flush(self) -> None:
        """Print a page, the archives of its results, and what they do not rest on."""
        if self._rows:
            self._print_rows()
            for model in sorted(self._models, key=lambda model: (model.name, model.version)):
                line = f"{model.name} {model.version}, archive sha256 {model.sha256 or 'unknown'}"
                self._print_note(line)
            for share in sorted(self._prevalence):
                text = f"The probabilities assume that {percentage(share)} of the images are positive."
                self._print_note(text)
            for note, count in self._notes.items():
                self._print_note(f"{note} ({counted(count, 'image')})")
            if self._unchecked:
                names = ", ".join(f"{name} ({count})" for name, count in self._unchecked.items())
                self._print_note(f"Not checked, with the number of images: {names}")
        self._rows.clear()
        self._models.clear()
        self._prevalence.clear()
        self._notes.clear()
        self._unchecked.clear()

    def _print_note(self, text: str) -> None:
        self._console.print(safe(text), soft_wrap=True)

    def _print_rows(self) -> None:
        if self._is_terminal:
            self._console.print(_page(self._rows))
            return
        if not self._has_header:
            typer.echo("\t".join(map(encodable, _NAMES)))
        self._has_header = True
        for row in self._rows:
            typer.echo("\t".join(row[name].plain if name in row else "" for name in _NAMES))


def _page(rows: list[dict[str, Text]]) -> RichTable:
    shown = [index for index, name in enumerate(_NAMES) if index < 2 or any(name in row for row in rows)]
    cells = ([row.get(_NAMES[index], "") for index in shown] for row in rows)
    table = terminal.table(*(_COLUMNS[index] for index in shown), rows=cells)
    table.collapse_padding = False
    for index, column in zip(shown, table.columns, strict=True):
        if _NAMES[index] in ("Warning", "Problem"):
            column.min_width = _MIN_WIDTH
    return table


def _cells(result: Prediction | Segmentation | Problem) -> dict[str, Text]:
    if isinstance(result, Problem):
        return {"Label": safe("NO RESULT", "bold red"), "Problem": safe(str(result), "red")}
    cells = {"Label": safe(result.label), "Version": safe(result.model.version)}
    if isinstance(result, Prediction) and result.is_uncertain:
        cells |= {"Label": safe("Uncertain", "bold"), "Model output": safe(result.label)}
    if isinstance(result, Prediction):
        cells["Probability"] = safe(percentage(result.probability))
        if result.threshold is not None:
            cells["Threshold"] = safe(f"{result.threshold:.1%}")
    else:
        cells |= _extent(result)
    if isinstance(result, Prediction) and result.is_uncertain:
        cells["Positive"] = safe("uncertain")
    elif result.positive is not None:
        cells["Positive"] = safe("yes", "bold yellow") if result.positive else safe("no")
    if result.warning is not None or (result.domain is not None and result.domain.is_doubtful):
        cells = {name: safe(cell.plain, "dim") for name, cell in cells.items()}
    cells |= _domain(result)
    return cells if result.warning is None else cells | {"Warning": safe(result.warning, "bold red")}


def _domain(result: ImageResult) -> dict[str, Text]:
    """Return how the image compares with the training images, unless it is like them, and its repair."""
    cells = {} if result.repair is None else {"Repair": safe(result.repair, "bold yellow")}
    domain = result.domain
    if domain is None or domain.status == "normal":
        return cells
    if domain.status is None or domain.percentile is None:
        return cells | {"Domain": safe("not compared", "yellow")}
    style = "bold red" if domain.status == "unlike" else "bold yellow"
    return cells | {"Domain": safe(f"{domain.status} ({domain.percentile:.1f}%)", style)}


def _extent(result: Segmentation) -> dict[str, Text]:
    cells = {"Area": safe(terminal.fraction(result.area.fraction))}
    if result.area.mm2 is not None:
        cells["mm²"] = safe(f"{result.area.mm2:.1f}")
    if result.box is not None:
        cells["Box"] = safe(f"{result.box.width} x {result.box.height} at {result.box.left}, {result.box.top}")
    return cells
