"""Writes outcomes as JSON lines or CSV to standard output."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

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
"""First characters of a cell that a spreadsheet would run as a formula."""


@dataclass(frozen=True)
class Problem:
    """Reason why an image has no result; `status` is None if no server reported it."""

    status: int | None
    title: str
    detail: str

    def __str__(self) -> str:
        return f"{self.status or ''} {self.title}: {self.detail}".lstrip()


@dataclass(frozen=True)
class Outcome:
    """Result of one file, or the problem with it."""

    file: str
    result: Prediction | Segmentation | Problem


class Report(Protocol):
    """Receives outcomes in order.

    Attributes
    ----------
    streams
        Whether `add` writes every outcome immediately.
    """

    streams: bool

    def add(self, outcome: Outcome) -> bool:
        """Receive one outcome; return whether `flush` is due."""

    def flush(self) -> None:
        """Write outcomes that `add` has buffered."""


class JsonLines:
    """One document per line: that of the server with the key `file`, or `file` and `problem`."""

    streams = True

    def add(self, outcome: Outcome) -> bool:
        """See `Report`."""
        result = outcome.result
        document = {"problem": asdict(result)} if isinstance(result, Problem) else dict(result.raw)
        file = {"file": outcome.file}
        # ASCII keeps file names that are not valid Unicode. The name comes first, whatever key the server sent.
        typer.echo(json.dumps(file | document | file))
        return False

    def flush(self) -> None:
        """See `Report`."""


class Csv:
    """Header and one row per file; the row of a problem has no label."""

    streams = True

    def __init__(self) -> None:
        self._write(_COLUMNS)

    def add(self, outcome: Outcome) -> bool:
        """See `Report`."""
        row = _row(outcome.result)
        self._write([_path_cell(outcome.file), *(_cell(row.get(name)) for name in _COLUMNS[1:])])
        return False

    def flush(self) -> None:
        """See `Report`."""

    def _write(self, cells: Iterable[str]) -> None:
        line = io.StringIO()
        # The writer quotes the characters of its line terminator, so it gets both; echo ends the line.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        typer.echo(encodable(line.getvalue().removesuffix("\r\n")))


def _row(result: Prediction | Segmentation | Problem) -> dict[str, Any]:
    """Return values by column."""
    if isinstance(result, Problem):
        return {"status": result.status, "problem": f"{result.title}: {result.detail}"}
    model, image = result.model, result.image
    row: dict[str, Any] = {
        "status": 200,
        "warning": result.warning,
        "label": result.label,
        "positive": result.positive,
        "threshold": result.threshold,
        "model": model.name,
        "version": model.version,
        "model_sha256": model.sha256,
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "image_sha256": image.sha256,
    }
    if isinstance(result, Prediction):
        return row | {"probability": result.probability}
    row |= {f"area_{key}": value for key, value in result.area}
    return row | {f"box_{key}": value for key, value in result.box or ()}


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if value is None else json.dumps(value)


def _path_cell(name: str) -> str:
    """Prevent that a file name is a formula; it remains a path to the same file."""
    return f"./{name}" if name.startswith(_FORMULA) and name != STDIN else name


def encodable(text: str) -> str:
    """Escape characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
