"""Records who changed the served versions, when, why and to which archive, in an append-only log."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from radserve.errors import ChangeError

FILE: Final = "audit.jsonl"
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True)
class Actor:
    """Who requested a change, and why."""

    name: str
    reason: str = ""


class Entry(BaseModel):
    """One change.

    Attributes
    ----------
    action
        register, scale, share, promote, rollback, unregister, or rollout: a step that a rollout took.
    sha256
        SHA-256 of the archive; None if the change concerns several.
    reason
        The reason that the actor gave.
    detail
        What happened, as a sentence.
    previous
        SHA-256 of the line before, so that a changed or removed line is detected.
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
    previous: str = _NO_DIGEST


class AuditLog:
    """The log in a folder; one process writes it (`radserve.versions.storage.StateFolder` holds the lock)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def write(
        self,
        actor: Actor,
        action: str,
        detail: str,
        *,
        model: str | None = None,
        version: str | None = None,
        sha256: str | None = None,
    ) -> None:
        """Append an entry durably.

        Raises
        ------
        ChangeError
            If it cannot be written; the change must then not be made.
        """
        try:
            with self._path.open("a+b") as file:
                file.seek(0)
                data = file.read()
                lines = data.splitlines()
                entry = Entry(
                    time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    actor=actor.name,
                    action=action,
                    model=model,
                    version=version,
                    sha256=sha256,
                    reason=actor.reason,
                    detail=detail,
                    previous=_digest(lines[-1]) if lines else _NO_DIGEST,
                )
                if data and not data.endswith(b"\n"):  # a killed writer left an incomplete line
                    file.write(b"\n")
                file.write(entry.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ChangeError(f"{self._path}: not writable ({error.strerror}); nothing was changed.") from error

    def entries(self, limit: int) -> list[Entry]:
        """Return the last entries, the newest last, without lines that a killed writer left incomplete."""
        return [entry for entry in map(_parse, self._lines()[-limit:]) if entry is not None]

    def first_broken_line(self) -> int | None:
        """Return the number of the first line that does not match the line before it, or None."""
        digest = _NO_DIGEST
        for number, line in enumerate(self._lines(), 1):
            entry = _parse(line)
            if entry is None or entry.previous != digest:
                return number
            digest = _digest(line)
        return None

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines() if self._path.exists() else []


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _parse(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None
