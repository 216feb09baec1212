"""Outcomes, image by image, as lines for programs; always on standard output."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import typer

from radserve.cli.inputs import STDIN
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation

_COLUMNS: Final = (
    "file",
    "status",
    "warning",
    "label",
    "probability",
    "positive",
    "threshold",
    "area_pixels",
    "area_fraction",
    "area_mm2",
    "box_left",
    "box_top",
    "box_width",
    "box_height",
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
    result: Prediction | Segmentation | Problem


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
        typer.echo(encodable(line.getvalue().removesuffix("\r\n")))


def _row(answer: Prediction | Segmentation) -> dict[str, str]:
    model, image = answer.model, answer.image
    special = _shares(answer) if isinstance(answer, Prediction) else _extent(answer)
    return special | {
        "status": "200",
        "warning": answer.warning or "",
        "label": answer.label,
        "positive": "" if answer.positive is None else str(answer.positive).lower(),
        "threshold": _number(answer.threshold),
        "model": model.name,
        "version": model.version,
        "model_sha256": model.sha256 or "",
        "format": image.format,
        "width": str(image.width),
        "height": str(image.height),
        "image_sha256": image.sha256,
    }


def _shares(answer: Prediction) -> dict[str, str]:
    return {"probability": _number(answer.probability)}


def _extent(answer: Segmentation) -> dict[str, str]:
    area = {f"area_{key}": _number(value) for key, value in answer.area.model_dump().items()}
    box = {} if answer.box is None else {f"box_{key}": _number(value) for key, value in answer.box.model_dump().items()}
    return area | box


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _problem_row(problem: Problem) -> dict[str, str]:
    return {"status": str(problem.status or ""), "problem": f"{problem.title}: {problem.detail}"}


def _safe_name(name: str) -> str:
    """Keep a spreadsheet from running a file name, and the name a path to the same file."""
    return f"./{name}" if name.startswith(_FORMULA) and name != STDIN else name


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def encodable(text: str) -> str:
    """Escape what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
