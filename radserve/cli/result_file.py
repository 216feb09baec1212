"""Files of results (`radserve predict --out`), which a later call can continue (`--resume`)."""

import csv
import fcntl
import io
import os
import secrets
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

from radserve.cli.inputs import STDIN, Source
from radserve.cli.report import Csv, JsonLines, Outcome, Problem, Report, csv_name
from radserve.cli.result_row import Conditions, Row, read
from radserve.errors import InvalidCallError
from radserve.files import write_atomically
from radserve.schema import columns
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation
from radserve.schema.types import ROUNDING

_BATCH: Final = 1000  # results after which a Parquet file is written again


class ResultFile(Report):
    """Report in a file; each outcome is in it once `flush` was called, or at once if it `streams`.

    The file is created or replaced with the first outcome, so a call without any leaves it unchanged.
    """

    def __init__(self, path: Path, kept: Sequence[Row]) -> None:
        self.path = path
        self._kept = list(kept)
        self._begun = False
        results = [row for row in kept if row.status == HTTPStatus.OK]
        self._earlier = {
            (row.version, row.model_sha256, row.profile_sha256, row.repair, row.prevalence) for row in results
        }

    @classmethod
    def start(cls, path: Path) -> Self:
        """Start a new file, or replace one."""
        return cls(path, ())

    @classmethod
    def resume(cls, path: Path, model: str, version: str | None, conditions: Conditions) -> Self:
        """Continue a file, without the rows of images to send again; start one if there is none."""
        if not path.exists():
            return cls.start(path)
        try:
            rows = list(read(path))
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
        _require_same(conditions, path, [row for row in rows if row.status == HTTPStatus.OK])
        again = {row.file for row in rows if not row.is_final and row.file != STDIN}  # with all frames
        return cls(path, [row for row in rows if row.is_final and row.file not in again])

    @property
    def version(self) -> str | None:
        """The version of all results that the file had; None without one, or if there are several."""
        versions = {version for version, *_ in self._earlier}
        return versions.pop() if len(versions) == 1 else None

    def has(self, name: str) -> bool:
        """Return whether a file has a row already."""
        return bool(self._rows_of(name))

    def rejections(self, sources: Sequence[Source], pending: Sequence[Source]) -> int:
        """Return how many rows of the images that are not `pending` are without a result."""
        again = {source.name for source in pending}
        rows = [self._rows_of(source.name) for source in sources if source.name not in again]
        return sum(not row.has_result for row in chain(*rows))

    def pending(self, sources: Sequence[Source]) -> list[Source]:
        """Return the images to send; raises InvalidCallError if one has the name of another image with a result.

        Standard input is always sent. The rows of images that were rejected and have changed are dropped.
        """
        pending = [source for source in sources if not self._is_done(source)]
        again = {_normalized(self.name(source.name)) for source in pending}
        self._kept = [row for row in self._kept if row.file == STDIN or _normalized(row.file) not in again]
        return pending

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {}
        for row in self._kept:
            if row.file != STDIN:
                rows.setdefault(_normalized(row.file), []).append(row)
        return rows

    def _rows_of(self, name: str) -> Sequence[Row]:
        """Return the row of a file, or those of its frames."""
        return () if name == STDIN else self._rows.get(_normalized(self.name(name)), ())

    def _is_done(self, source: Source) -> bool:
        rows = self._rows_of(source.name)
        if not rows:
            return False
        row = rows[-1]
        try:
            sha256 = source.sha256()
        except OSError:
            return True  # it cannot be sent again
        if row.status == HTTPStatus.OK and row.sha256 != sha256:
            raise InvalidCallError(
                f"--resume: {source.name} has changed since its result in {self.path}. Choose another --out, or "
                "replace --resume by --force to send all images again."
            )
        # An interrupted call may have written the rows of some frames only.
        is_complete = row.frame is None or {item.frame for item in rows} >= set(range(1, source.frames() + 1))
        return row.sha256 == sha256 and is_complete

    def add(self, outcome: Outcome) -> bool:
        """Receive one outcome; return whether `flush` is due.

        Raises InvalidCallError if the file cannot be written, or has results of another version, model file or site
        profile, or for another repair or prevalence.
        """
        if not isinstance(outcome.result, Problem):
            self._require_alike(outcome.result)
        try:
            if not self._begun:
                self._begin()
                self._begun = True
            return self._add(outcome)
        except OSError as error:
            raise InvalidCallError(f"--out {self.path}: cannot be written ({error.strerror}).") from error

    def _require_alike(self, result: Prediction | Segmentation) -> None:
        """Raise InvalidCallError if no earlier result has the model file, profile and options of this one."""
        profile = columns.value(result, "profile.sha256")
        alike = result.model.version, result.model.sha256, profile, result.raw.get("repair")
        share = result.raw.get("prevalence")
        for *other, other_share in self._earlier:
            if tuple(other) == alike and not _differ(other_share, share):
                return
        if self._earlier:
            others = "; ".join(sorted(_conditions(*item) for item in self._earlier))
            raise InvalidCallError(
                f"--resume: {self.path} has results of {others}, and the server now sends results of "
                f"{_conditions(*alike, share)}. Give the options of the first call, or choose another file."
            )

    @abstractmethod
    def _begin(self) -> None:
        """Create or replace the file, with the rows of earlier calls."""

    @abstractmethod
    def _add(self, outcome: Outcome) -> bool:
        """Receive one outcome after `_begin`."""

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return file


class JsonLinesFile(ResultFile):
    """One document per line."""

    def _begin(self) -> None:
        write_atomically(self.path, "".join(f"{row.content}\n" for row in self._kept))
        self._report = JsonLines(partial(_append, self.path))

    def _add(self, outcome: Outcome) -> bool:
        return self._report.add(outcome)


class CsvFile(ResultFile):
    """Header and one row per file."""

    def _begin(self) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([columns.NAMES, *(row.content for row in self._kept)])
        write_atomically(self.path, text.getvalue().encode(errors="backslashreplace"))
        self._report = Csv(partial(_append, self.path, end="\r\n"), header=False)

    def _add(self, outcome: Outcome) -> bool:
        return self._report.add(outcome)

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return csv_name(file).encode(errors="backslashreplace").decode()


class ParquetFile(ResultFile):
    """Table with types; written again after every 1000 results, because Parquet files cannot grow."""

    streams = False

    def _begin(self) -> None:
        self._table: list[dict[str, Any]] = [row.content for row in self._kept]

    def _add(self, outcome: Outcome) -> bool:
        result, file = outcome.result, self.name(outcome.file)
        if isinstance(result, Problem):
            row = columns.of_problem(file, result.status, result.title, result.detail)
            self._table.append(
                row | {"image_sha256": result.image_sha256, "frame": result.frame} | columns.of_domain(result.domain)
            )
        else:
            self._table.append(columns.of_result(file, result))
        return len(self._table) % _BATCH == 0

    def flush(self) -> None:
        """Write the file, if there is an outcome; if that fails, write a copy to the folder for temporary files."""
        if not self._begun:
            return
        stream = io.BytesIO()
        columns.frame(self._table).to_parquet(stream, index=False)
        try:
            write_atomically(self.path, stream.getvalue())
        except OSError as error:
            self._begun = False  # the copy is written once
            raise InvalidCallError(
                f"--out {self.path}: cannot be written ({error.strerror}). {_rescue(self.path, stream.getvalue())}"
            ) from error

    @staticmethod
    def name(file: str) -> str:
        """Return the name under which an image is stored."""
        return file.encode(errors="backslashreplace").decode()


_FORMATS: Final[dict[str, type[ResultFile]]] = {".csv": CsvFile, ".jsonl": JsonLinesFile, ".parquet": ParquetFile}


def open_file(
    path: Path,
    model: str,
    version: str | None,
    *,
    resume: bool,
    force: bool,
    conditions: Conditions | None = None,
) -> ResultFile:
    """Open a file of results by its suffix; raises InvalidCallError. Take the lock (`locked`) before."""
    kind = _kind(path)
    if kind is ParquetFile:
        _require_pyarrow()
    if path.exists() and not (resume or force):
        raise InvalidCallError(f"--out {path}: exists; add --resume to continue it, or --force to replace it.")
    return kind.resume(path, model, version, conditions or Conditions()) if resume else kind.start(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file of results for this call; raises InvalidCallError if another call has the lock.

    The lock is a separate file, because the file itself is replaced.
    """
    _kind(path)
    try:
        lock = path.with_name(f".{path.name}.lock").open("ab")
    except FileNotFoundError as error:
        raise InvalidCallError(f"--out {path}: the folder {path.parent} does not exist; create it first.") from error
    except NotADirectoryError as error:
        raise InvalidCallError(
            f"--out {path}: {path.parent} is a file, not a folder; choose another folder."
        ) from error
    except OSError as error:
        raise InvalidCallError(f"--out {path}: cannot be written ({error.strerror}).") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidCallError(f"--out {path}: another call is writing to it; wait until it ends.") from error
        yield


def _kind(path: Path) -> type[ResultFile]:
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InvalidCallError(f"--out {path}: choose a name that ends with {', '.join(_FORMATS)}.")
    return kind


def _require_same(conditions: Conditions, path: Path, results: Iterable[Row]) -> None:
    """Raise InvalidCallError if results have another repair, or another prevalence than the stated one."""
    for row in results:
        if conditions.repair is None and row.repair is not None:
            option = f"with --repair {row.repair}"
        elif row.repair != conditions.repair:
            option = f"without --repair {conditions.repair}"
        elif _differ(row.prevalence, conditions.prevalence):
            option = f"without --prevalence {conditions.prevalence}"
        else:
            continue
        raise InvalidCallError(f"--resume: {path} has results {option}; choose another file.")


def _conditions(
    version: str | None, sha256: str | None, profile: str | None, repair: str | None, prevalence: float | None
) -> str:
    """Describe the conditions of a result."""
    share = "" if prevalence is None else f" for prevalence {prevalence:g}"
    model = f"version {version} (SHA-256 {sha256[:12]})" if sha256 else f"version {version}"
    site = f" with the site profile of SHA-256 {profile[:12]}" if profile else ""
    return f"{model}{site}{share}{f' with --repair {repair}' if repair else ''}"


def _differ(first: float | None, second: float | None) -> bool:
    """Return whether two prevalences differ; False if either is unknown."""
    return first is not None and second is not None and abs(first - second) > ROUNDING


def _require_pyarrow() -> None:
    try:
        import pandas as pd  # noqa: F401
        import pyarrow as pa  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidCallError(
            f"--out: Parquet needs {error.name}, which is not installed: pip install 'radserve[analysis]'"
        ) from error


def _rescue(path: Path, content: bytes) -> str:
    """Save the results of a file that cannot be written; return where they are."""
    try:
        copy = Path(tempfile.gettempdir(), f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")
        write_atomically(copy, content)
    except OSError as error:
        return (
            "The results since it was last written are lost, because a copy cannot be written either "
            f"({error.strerror})."
        )
    return f"All results are in {copy}; move it to {path}, and continue with --resume."


def _normalized(name: str) -> str:
    """Return the absolute path of a name, one for `films/1.png` and `./films/1.png`."""
    return os.path.normpath(Path(name).absolute())


def _append(path: Path, line: str, end: str = "\n") -> None:
    with path.open("ab") as file:
        file.write((line + end).encode(errors="backslashreplace"))
