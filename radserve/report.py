"""Outcomes, image by image, as a table for people or as lines for programs; always on standard output."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import typer
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from radserve.prediction import Prediction
from radserve.sources import STDIN

_PAGE: Final = 1000
_PIPE_WIDTH: Final = 400
_COLUMNS: Final = (
    "file",
    "status",
    "label",
    "probability",
    "positive",
    "threshold",
    "model",
    "version",
    "model_sha256",
    "format",
    "width",
    "height",
    "image_sha256",
    "problem",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet run a cell instead of showing it."""


@dataclass(frozen=True)
class Problem:
    """Why there is no answer; `status` is HTTP's, None where no server said it."""

    status: int | None
    title: str
    detail: str

    def __str__(self) -> str:
        return f"{self.status or ''} {self.title}: {self.detail}".lstrip()


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    file: str
    result: Prediction | Problem


class Report(Protocol):
    """Takes outcomes in order; what it holds back, `flush` writes."""

    streams: bool
    """Whether every outcome is written at once."""

    def add(self, outcome: Outcome) -> bool:
        """Take one outcome; say whether it is time to flush."""

    def flush(self) -> None:
        """Write what was held back."""


class JsonLines:
    """One document a line: the server's own with `file` before it, or `file` and `problem`."""

    streams = True

    def add(self, outcome: Outcome) -> bool:
        """See `Report`."""
        result = outcome.result
        said = {"problem": asdict(result)} if isinstance(result, Problem) else dict(result.raw)
        name = {"file": outcome.file}
        # ASCII: a file name need not be Unicode, and this form keeps it.
        typer.echo(json.dumps(name | said | name))
        return False

    def flush(self) -> None:
        """See `Report`."""


class Csv:
    """A header, then one row a file; a row without an answer has no label, and a problem."""

    streams = True

    def __init__(self) -> None:
        self._write(_COLUMNS)

    def add(self, outcome: Outcome) -> bool:
        """See `Report`."""
        row = _problem_row(outcome.result) if isinstance(outcome.result, Problem) else _row(outcome.result)
        self._write([_safe_name(outcome.file), *(_safe(row.get(name, "")) for name in _COLUMNS[1:])])
        return False

    def flush(self) -> None:
        """See `Report`."""

    def _write(self, cells: Iterable[str]) -> None:
        line = io.StringIO()
        # The writer quotes the signs that its line end is made of: it is given both, and the line ends in one.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        typer.echo(_encodable(line.getvalue().removesuffix("\r\n")))


def _row(prediction: Prediction) -> dict[str, str]:
    model, image = prediction.model, prediction.image
    return {
        "status": "200",
        "label": prediction.label,
        "probability": repr(prediction.probability),
        "positive": "" if prediction.positive is None else str(prediction.positive).lower(),
        "threshold": "" if prediction.threshold is None else repr(prediction.threshold),
        "model": model.name,
        "version": model.version,
        "model_sha256": model.sha256 or "",
        "format": image.format,
        "width": str(image.width),
        "height": str(image.height),
        "image_sha256": image.sha256,
    }


def _problem_row(problem: Problem) -> dict[str, str]:
    return {"status": str(problem.status or ""), "problem": f"{problem.title}: {problem.detail}"}


def _safe_name(name: str) -> str:
    """Keep a spreadsheet from running a file name, and the name a path to the same file."""
    return f"./{name}" if name.startswith(_FORMULA) and name != STDIN else name


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class Table:
    """A table for people, in pages so that a large folder does not have to fit into memory."""

    streams = False

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _PIPE_WIDTH
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> bool:
        """See `Report`."""
        self._outcomes.append(outcome)
        return len(self._outcomes) >= _PAGE

    def flush(self) -> None:
        """See `Report`."""
        if self._outcomes:
            self._console.print(_table(self._outcomes))
            for line in _models(self._outcomes):
                self._console.print(_text(line), soft_wrap=True)
        self._outcomes.clear()


def _models(outcomes: list[Outcome]) -> list[str]:
    models = {item.result.model for item in outcomes if isinstance(item.result, Prediction)}
    return sorted(f"{model.name} {model.version}, archive sha256 {model.sha256 or 'unknown'}" for model in models)


def _table(outcomes: list[Outcome]) -> RichTable:
    problems = any(isinstance(item.result, Problem) for item in outcomes)
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("File", overflow="fold")
    table.add_column("Label", overflow="fold")
    for name in ("Probability", "Positive", "Threshold", "Version"):
        table.add_column(name, justify="right", no_wrap=True)
    if problems:
        table.add_column("Why there is no answer", overflow="fold", min_width=24)
    for item in outcomes:
        table.add_row(_text(item.file), *_cells(item.result))
    return table


def _share(probability: float) -> str:
    """Format a probability; rounding must not turn it into certainty."""
    if probability > 0.9994:
        return ">99.9%"
    return "<0.1%" if probability < 0.0006 else f"{probability:.1%}"


def _cells(result: Prediction | Problem) -> list[Text]:
    if isinstance(result, Problem):
        return [_text("NO ANSWER", "bold red"), *[_text("")] * 4, _text(str(result), "red")]
    threshold = "" if result.threshold is None else f"{result.threshold:.1%}"
    positive = {None: _text(""), True: _text("yes", "bold yellow"), False: _text("no")}[result.positive]
    return [
        _text(result.label),
        _text(_share(result.probability)),
        positive,
        _text(threshold),
        _text(result.model.version),
    ]


def _text(text: str, style: str = "") -> Text:
    """Show any text as it is: no markup, and no control character reaches the terminal."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return Text(_encodable(shown), style)
