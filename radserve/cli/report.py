"""Writes outcomes as JSON lines or CSV to standard output."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import typer

from radserve import spreadsheet
from radserve.cli.inputs import STDIN
from radserve.cli.outputs import Slice
from radserve.cli.terminal import encodable
from radserve.schema import columns
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation


@dataclass(frozen=True)
class Problem:
    """Reason why an image has no result; `status` is None if no server reported it.

    `domain` compares the image with the training images, if that is why it was rejected. `image_sha256` is the checksum
    of the image that a server rejected, `frame` the number of its frame, if it has several.
    """

    status: int | None
    title: str
    detail: str
    domain: Mapping[str, Any] | None = None
    image_sha256: str | None = None
    frame: int | None = None

    def __str__(self) -> str:
        return f"{self.status or ''} {self.title}: {self.detail}".lstrip()


@dataclass(frozen=True)
class Outcome:
    """Result of one file, or the problem with it.

    `without_dicom` says why a result has no DICOM objects. `mask` is still to be written as DICOM.
    """

    file: str
    result: Prediction | Segmentation | Problem
    without_dicom: str | None = None
    mask: Slice | None = None

    @property
    def frame(self) -> int | None:
        """Number of the frame of a file with several."""
        return self.result.frame if isinstance(self.result, Problem) else self.result.image.frame


class Report(ABC):
    """Receives outcomes in order; `streams` if `add` writes each one immediately."""

    streams = True

    @abstractmethod
    def add(self, outcome: Outcome) -> bool:
        """Receive one outcome; return whether `flush` is due."""

    def flush(self) -> None:  # noqa: B027 - only a report that does not stream has something to write
        """Write outcomes that `add` has buffered."""


class JsonLines(Report):
    """One document per line: that of the server with `file` and `columns.ADDED`, or `file` and `problem`."""

    def __init__(self, write: Callable[[str], None] = typer.echo) -> None:
        self._write = write

    def add(self, outcome: Outcome) -> bool:
        """Write a line."""
        result = outcome.result
        file = {"file": outcome.file}
        if isinstance(result, Problem):
            document: dict[str, Any] = {"problem": _present(asdict(result))}
        else:
            document = columns.added(result) | dict(result.raw)
        # ASCII keeps file names that are not valid Unicode. The name comes first, whatever key the server sent.
        self._write(json.dumps(file | document | file))
        return False


class Csv(Report):
    """Header and one row per file; the row of a problem has no label."""

    def __init__(self, write: Callable[[str], None] | None = None, *, header: bool = True) -> None:
        self._write_line = write or (lambda line: typer.echo(encodable(line)))
        if header:
            self._write(columns.NAMES)

    def add(self, outcome: Outcome) -> bool:
        """Write a row."""
        result, path = outcome.result, csv_name(outcome.file)
        if isinstance(result, Problem):
            problem = _cell(f"{result.title}: {result.detail}")
            domain = {name: _cell(value) for name, value in columns.of_domain(result.domain).items()}
            known = {"image_sha256": _cell(result.image_sha256), "frame": _cell(result.frame)} | domain
            self._write([path, _cell(result.status), *(known.get(name, "") for name in columns.RESULT), problem])
        else:
            self._write([path, "200", *(_cell(columns.value(result, names)) for names in columns.RESULT.values()), ""])
        return False

    def _write(self, cells: Iterable[str]) -> None:
        line = io.StringIO()
        # The writer quotes the characters of its line terminator, so it gets both; echo ends the line.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._write_line(line.getvalue().removesuffix("\r\n"))


def csv_name(name: str) -> str:
    """Return a file name as CSV has it: "./" prevents that it is a formula, and is a path to the same file."""
    if name == STDIN:
        return name
    return spreadsheet.cell(f"./{name}" if name[:1] in {"=", "+", "-", "@", "\t", "\r"} else name)


def _present(document: dict[str, Any]) -> dict[str, Any]:
    """Return a problem without optional keys that are empty."""
    return {key: value for key, value in document.items() if key == "status" or value is not None}


def _cell(value: str | float | tuple[str, ...] | None) -> str:
    if isinstance(value, tuple):
        return _cell(", ".join(value))
    if isinstance(value, str):
        return spreadsheet.cell(value)
    return "" if value is None else json.dumps(value)
