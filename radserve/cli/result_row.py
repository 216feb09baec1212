"""Rows of the files of results that an earlier call wrote."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from radserve.schema import columns

_NOT_FINAL: Final = frozenset(
    # The last one depends on --assure and --repair.
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_OTHER_RELEASE: Final = "its columns are those of another release"


@dataclass(frozen=True)
class Row:
    """One result of an existing file; `content` is its line or its cells."""

    file: str
    status: int | None
    model: str | None
    version: str | None
    model_sha256: str | None
    sha256: str | None
    profile_sha256: str | None
    repair: str | None
    prevalence: float | None
    domain: str | None
    frame: int | None
    content: Any

    @property
    def has_result(self) -> bool:
        """Whether the image has a result: it was analysed, and is neither unusual nor unlike the training images."""
        return self.status == HTTPStatus.OK and self.domain not in ("unusual", "unlike")

    @property
    def is_final(self) -> bool:
        """Whether to keep it: a result, or a rejection that options cannot change. Other images are sent again."""
        if self.status is None or self.status in _NOT_FINAL:
            return False
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(frozen=True)
class Conditions:
    """Options that change results: the repair of all images, and the prevalence if it is stated."""

    repair: str | None = None
    prevalence: float | None = None


def _read_json_lines(path: Path) -> Iterable[Row]:
    complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    for line in complete.split("\n") if complete else ():
        document = json.loads(line)
        model, problem = document.get("model", {}), document.get("problem", {})
        if not problem and "result" not in document:
            raise ValueError(_OTHER_RELEASE)
        status = problem.get("status") if problem else HTTPStatus.OK
        sha256 = document.get("image", {}).get("sha256") or problem.get("image_sha256")
        profile = document.get("profile") or {}
        domain = (document.get("domain") or {}).get("status")
        conditions = profile.get("sha256"), document.get("repair"), document.get("prevalence"), domain
        names = model.get("name"), model.get("version"), model.get("sha256")
        frame = document.get("image", {}).get("frame") or problem.get("frame")
        yield Row(document["file"], status, *names, sha256, *conditions, frame, line)


def _read_csv(path: Path) -> Iterable[Row]:
    complete, end, _ = path.read_bytes().decode().rpartition("\r\n")
    header, *rows = csv.reader(io.StringIO(complete + end, newline=""))
    if tuple(header) != columns.NAMES:
        raise ValueError(_OTHER_RELEASE)
    for cells in rows:
        if len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            status = int(row["status"]) if row["status"] else None
            prevalence = float(row["prevalence"]) if row["prevalence"] else None
            conditions = row["profile_sha256"] or None, row["repair"] or None, prevalence
            names = row["model"], row["version"], row["model_sha256"]
            domain = row["domain_status"] or None
            frame = int(row["frame"]) if row["frame"] else None
            yield Row(row["file"], status, *names, row["image_sha256"], *conditions, domain, frame, cells)


def _read_parquet(path: Path) -> Iterable[Row]:
    import pandas as pd

    table = pd.read_parquet(path).astype(object)
    if tuple(table.columns) != columns.NAMES:
        raise ValueError(_OTHER_RELEASE)
    for row in table.where(table.notna(), None).to_dict("records"):
        conditions = row["profile_sha256"], row["repair"], row["prevalence"], row["domain_status"], row["frame"]
        names = row["model"], row["version"], row["model_sha256"], row["image_sha256"]
        yield Row(row["file"], row["status"], *names, *conditions, row)


_READERS: Final[dict[str, Callable[[Path], Iterable[Row]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}


def read(path: Path) -> Iterable[Row]:
    """Read the rows of a file by its suffix; a last line that is not complete is ignored."""
    return _READERS[path.suffix.lower()](path)
