"""The audit log: who changed what is served, when, to which bytes, and why. It only ever grows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from radserve.errors import ChangeError

FILE: Final = "audit.jsonl"
_NOTHING: Final = "0" * 64


@dataclass(frozen=True)
class Actor:
    """Who asked for a change, and why."""

    actor: str
    reason: str = ""


class Entry(BaseModel):
    """One change.

    Attributes
    ----------
    action
        register, scale, share, promote, rollback, unregister, apply; or rollout: what a rollout did by itself.
    sha256
        Of the archive; None where the change is about no single one.
    reason
        What the one who asked for it said.
    detail
        What happened, as a sentence.
    previous
        SHA-256 of the line before: a line that was changed or taken out afterwards shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str
    actor: str
    action: str
    model: str | None = None
    version: str | None = None
    sha256: str | None = None
    reason: str = ""
    detail: str = ""
    previous: str = _NOTHING


class Audit:
    """The log in a folder; one process writes it (`radserve.versions.storage.Folder` sees to that)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def write(
        self,
        by: Actor,
        action: str,
        detail: str,
        *,
        model: str | None = None,
        version: str | None = None,
        sha256: str | None = None,
    ) -> Entry:
        """Add an entry; it is on the disk when this returns.

        Raises
        ------
        ChangeError
            If it cannot be written: what cannot be recorded is not done.
        """
        try:
            with self._path.open("a+b") as file:
                entry = Entry(
                    time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    actor=by.actor,
                    action=action,
                    model=model,
                    version=version,
                    sha256=sha256,
                    reason=by.reason,
                    detail=detail,
                    previous=_last_digest(self._path),
                )
                file.write(entry.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ChangeError(f"{self._path}: cannot be written ({error.strerror}), so nothing is changed.") from error
        return entry

    def entries(self, limit: int) -> list[Entry]:
        """Return the last entries, the newest last; a line that a killed writer cut short is left out."""
        return [entry for entry in map(_parsed, list(_lines(self._path))[-limit:]) if entry is not None]

    def broken(self) -> int | None:
        """Return the number of the first line that does not follow from the one before, or None."""
        before = _NOTHING
        for number, line in enumerate(_lines(self._path), 1):
            entry = _parsed(line)
            if entry is None or entry.previous != before:
                return number
            before = _digest(line)
        return None


def _last_digest(path: Path) -> str:
    """Hash the last line; one that a killed writer cut short is ended first, so that the next stands alone."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    lines = data.splitlines()
    return _digest(lines[-1]) if lines else _NOTHING


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        yield from path.read_bytes().splitlines()


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _parsed(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None
