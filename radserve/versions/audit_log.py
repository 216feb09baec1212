"""Records who changed the served versions, when, why and to which archive, in an append-only log."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from radserve.errors import ChangeError
from radserve.schema.control import AuditEntry

FILE: Final = "audit.jsonl"
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True)
class Actor:
    """Who requested a change, and why."""

    name: str
    reason: str = ""


class AuditLog:
    """The log in a `StateFolder` that this process has locked; each entry has the digest of the line before it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def write(self, entry: AuditEntry) -> None:
        """Append an entry durably; raise ChangeError if that fails, and the change must then not be made."""
        try:
            with self._path.open("a+b", buffering=0) as file:
                file.seek(0)
                data = file.readall()
                lines = data.splitlines()
                entry = entry.model_copy(update={"previous": _digest(lines[-1]) if lines else _NO_DIGEST})
                # A killed writer may have left an incomplete line.
                rest = (b"\n" if data and not data.endswith(b"\n") else b"") + entry.model_dump_json().encode() + b"\n"
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(len(data))  # a full disk takes the beginning of a line
                    raise
        except OSError as error:
            raise ChangeError(f"{self._path}: not writable ({error.strerror}); changes are rejected.") from error

    def entries(self, limit: int) -> list[AuditEntry]:
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


def _parse(line: bytes) -> AuditEntry | None:
    try:
        return AuditEntry.model_validate_json(line)
    except ValidationError:
        return None
