"""Writes outcomes as a table to a terminal, or as tab-separated lines to a pipe or file."""

import sys
from typing import Final

import typer
from rich.table import Table as RichTable
from rich.text import Text

from radserve.cli import terminal
from radserve.cli.notes import Notes
from radserve.cli.report import Outcome, Problem, Report
from radserve.cli.terminal import encodable, safe
from radserve.schema.percentage import compared, percentage
from radserve.schema.prediction import ImageResult, Prediction
from radserve.schema.segmentation import Segmentation

_PAGE: Final = 1000
_COLUMNS: Final = (
    *("File", "Result", "Domain", "Repair", "Warning", "Model output", ">Probability", ">Area", ">mm²", ">Box"),
    *(">Positive", ">Cut-off", ">Version", "Problem"),
)
"""As for `terminal.table`. A page on a terminal omits empty ones after the first two, and has the problems below it."""
_NAMES: Final = tuple(name.removeprefix(">") for name in _COLUMNS)


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
        self._notes = Notes()

    def add(self, outcome: Outcome) -> bool:
        """Keep a row until the page is full."""
        self._notes.add(outcome)
        name = outcome.file if outcome.frame is None else f"{outcome.file} frame {outcome.frame}"
        self._rows.append({"File": safe(name)} | _cells(outcome.result))
        return len(self._rows) >= _PAGE

    def flush(self) -> None:
        """Print a page, and the notes about its results."""
        if self._rows:
            self._print_rows()
            for line in self._notes.lines():
                self._console.print(Text(line), soft_wrap=True)
        self._rows.clear()
        self._notes = Notes()

    def _print_rows(self) -> None:
        if self._is_terminal:
            self._console.print(_page(self._rows))
            for row in self._rows:
                if "Problem" in row:
                    self._console.print(Text.assemble(row["File"], ": ", row["Problem"]), soft_wrap=True)
            return
        if not self._has_header:
            typer.echo("\t".join(map(encodable, _NAMES)))
        self._has_header = True
        for row in self._rows:
            typer.echo("\t".join(row[name].plain if name in row else "" for name in _NAMES))


def _page(rows: list[dict[str, Text]]) -> RichTable:
    columns = enumerate(_NAMES[:-1])
    shown = [index for index, name in columns if index < 2 or any(name in row for row in rows)]
    cells = ([row.get(_NAMES[index], "") for index in shown] for row in rows)
    table = terminal.table(*(_COLUMNS[index] for index in shown), rows=cells)
    table.collapse_padding = False
    return table


def _cells(result: Prediction | Segmentation | Problem) -> dict[str, Text]:
    if isinstance(result, Problem):
        return {"Result": safe("no result", "bold red"), "Problem": safe(str(result), "red")}
    cells = {"Result": safe(result.verdict), "Version": safe(result.model.version)}
    if result.verdict != result.label:  # the label and its values alone would be read as a result
        cells |= {"Result": safe(result.verdict, "bold"), "Model output": safe(result.output, "dim")}
    else:
        cells |= _decision(result) if isinstance(result, Prediction) else _extent(result)
        if result.positive is not None:
            cells["Positive"] = safe("yes", "bold yellow") if result.positive else safe("no")
    if result.warning is not None:
        cells = {name: safe(cell.plain, "dim") for name, cell in cells.items()}
    cells |= _domain(result)
    return cells if result.warning is None else cells | {"Warning": safe(result.warning, "bold red")}


def _decision(result: Prediction) -> dict[str, Text]:
    """Return the probability, that of the positive label where there is a cut-off."""
    if result.positive_probability is None or result.positive_label is None or result.threshold is None:
        return {"Probability": safe(percentage(result.probability))}
    share, cut_off = compared(result.positive_probability, result.threshold)
    return {"Probability": safe(f"{result.positive_label} {share}"), "Cut-off": safe(cut_off)}


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
