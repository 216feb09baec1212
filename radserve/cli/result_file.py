"""Files of results (`radserve predict --out`), which a later call can continue (`--resume`)."""

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

from radserve.cli.report import Csv, JsonLines, Outcome, Problem, Report, csv_name
from radserve.errors import InvalidCallError
from radserve.files import write_atomically
from radserve.schema import columns

_TRANSIENT: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_BATCH: Final = 1000  # results after which a Parquet file is written again


@dataclass(frozen=True)
class Row:
    """One result of an existing file; `content` is its line or its cells."""

    file: str
    status: int | None
    model: str | None
    version: str | None
    content: Any

    @property
    def is_final(self) -> bool:
        """Whether to keep it: a result, or a rejection. After any other error, the image is sent again."""
        if self.status is None or self.status in _TRANSIENT:
            return False
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class ResultFile(Report):
    """Report in a file; each outcome is in it once `flush` was called, or at once if it `streams`."""

    def __init__(self, path: Path, kept: Sequence[Row]) -> None:
        self.path = path
        self.done = frozenset(row.file for row in kept)

    @classmethod
    def start(cls, path: Path) -> Self:
        """Start a new file, or replace one."""
        return cls(path, ())

    @classmethod
    def resume(cls, path: Path, model: str, version: str | None) -> Self:
        """Continue a file, without the rows of images to send again; start one if there is none."""
        if not path.exists():
            return cls.start(path)
        try:
            rows = list(cls.read(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidCallError(f"--resume: {path} has no results that can be read ({error}).") from error
        others = {f"{row.model} {row.version}" for row in rows if row.model and row.model != model}
        others |= {f"{row.model} {row.version}" for row in rows if row.model and version not in (None, row.version)}
        if others:
            raise InvalidCallError(
                f"--resume: {path} has results of {', '.join(sorted(others))}; choose another file for "
                f"{model} {version or ''}".rstrip()
                + "."
            )
        return cls(path, [row for row in rows if row.is_final])

    def has(self, name: str) -> bool:
        """Return whether a file has a result already."""
        return self.name(name) in self.done

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return file

    @staticmethod
    @abstractmethod
    def read(path: Path) -> Iterable[Row]:
        """Read the rows of a file; a last line that is not complete is ignored."""


class JsonLinesFile(ResultFile):
    """One document per line."""

    def __init__(self, path: Path, kept: Sequence[Row]) -> None:
        super().__init__(path, kept)
        write_atomically(path, "".join(f"{row.content}\n" for row in kept))
        self._report = JsonLines(partial(_append, path))

    def add(self, outcome: Outcome) -> bool:
        """Append a line."""
        return self._report.add(outcome)

    @staticmethod
    def read(path: Path) -> Iterable[Row]:
        """Read the rows of a file; a last line that is not complete is ignored."""
        complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        for line in complete.split("\n") if complete else ():
            document = json.loads(line)
            model = document.get("model", {})
            status = document["problem"].get("status") if "problem" in document else HTTPStatus.OK
            yield Row(document["file"], status, model.get("name"), model.get("version"), line)


class CsvFile(ResultFile):
    """Header and one row per file."""

    def __init__(self, path: Path, kept: Sequence[Row]) -> None:
        super().__init__(path, kept)
        text = io.StringIO()
        csv.writer(text).writerows([columns.NAMES, *(row.content for row in kept)])
        write_atomically(path, text.getvalue().encode(errors="backslashreplace"))
        self._report = Csv(partial(_append, path, end="\r\n"), header=False)

    def add(self, outcome: Outcome) -> bool:
        """Append a row."""
        return self._report.add(outcome)

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return csv_name(file).encode(errors="backslashreplace").decode()

    @staticmethod
    def read(path: Path) -> Iterable[Row]:
        """Read the rows of a file; a last line that is not complete is ignored."""
        complete, end, _ = path.read_bytes().decode().rpartition("\r\n")
        header, *rows = csv.reader(io.StringIO(complete + end, newline=""))
        if tuple(header) != columns.NAMES:
            raise ValueError("its columns are those of another release")
        for cells in rows:
            if len(cells) == len(header):
                row = dict(zip(header, cells, strict=True))
                status = int(row["status"]) if row["status"] else None
                yield Row(row["file"], status, row["model"], row["version"], cells)


class ParquetFile(ResultFile):
    """Table with types; written again after every 1000 results, because Parquet files cannot grow."""

    streams = False

    def __init__(self, path: Path, kept: Sequence[Row]) -> None:
        super().__init__(path, kept)
        self._rows: list[dict[str, Any]] = [row.content for row in kept]
        self.flush()

    def add(self, outcome: Outcome) -> bool:
        """Keep a row until `flush`."""
        result, file = outcome.result, self.name(outcome.file)
        if isinstance(result, Problem):
            self._rows.append(columns.of_problem(file, result.status, result.title, result.detail))
        else:
            self._rows.append(columns.of_result(file, result))
        return len(self._rows) % _BATCH == 0

    def flush(self) -> None:
        """Write the file."""
        stream = io.BytesIO()
        columns.frame(self._rows).to_parquet(stream, index=False)
        write_atomically(self.path, stream.getvalue())

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return file.encode(errors="backslashreplace").decode()

    @staticmethod
    def read(path: Path) -> Iterable[Row]:
        """Read the rows of a file."""
        import pandas as pd

        table = pd.read_parquet(path).astype(object)
        for row in table.where(table.notna(), None).to_dict("records"):
            yield Row(row["file"], row["status"], row["model"], row["version"], row)


_FORMATS: Final[dict[str, type[ResultFile]]] = {".csv": CsvFile, ".jsonl": JsonLinesFile, ".parquet": ParquetFile}


def open_file(path: Path, model: str, version: str | None, *, resume: bool, force: bool) -> ResultFile:
    """Open a file of results by its suffix; raises InvalidCallError."""
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InvalidCallError(f"--out {path}: choose a name that ends with {', '.join(_FORMATS)}.")
    if kind is ParquetFile:
        _require_pyarrow()
    if path.exists() and not (resume or force):
        raise InvalidCallError(f"--out {path}: exists; add --resume to continue it, or --force to replace it.")
    try:
        return kind.resume(path, model, version) if resume else kind.start(path)
    except OSError as error:
        raise InvalidCallError(f"--out {path}: cannot be written ({error.strerror}).") from error


def _require_pyarrow() -> None:
    try:
        import pandas as pd  # noqa: F401
        import pyarrow as pa  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidCallError(
            f"--out: Parquet needs {error.name}, which is not installed: pip install 'radserve[analysis]'"
        ) from error


def _append(path: Path, line: str, end: str = "\n") -> None:
    with path.open("ab") as file:
        file.write((line + end).encode(errors="backslashreplace"))
