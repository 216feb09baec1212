"""Records who changed the served versions, when, why and to which archive, in an append-only log."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import Gauge, Info
from pydantic import ValidationError

from radserve.errors import ChangeError
from radserve.schema.control import AuditEntry, AuditVerification

logger = logging.getLogger(__name__)

FILE: Final = "audit.jsonl"
ENTRIES: Final = Gauge("radserve_audit_entries", "Entries of the audit log.", registry=None)
INTACT: Final = Gauge("radserve_audit_intact", "1 unless the audit log is damaged.", registry=None)
HEAD: Final = Info("radserve_audit_head", "Digest of the last entry of the audit log.", registry=None)
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True)
class Actor:
    """Who requested a change, and why."""

    name: str
    reason: str = ""


class AuditLog:
    """The log in a `StateFolder` that this process has locked; each entry has the digest of the line before it.

    `problem` says where the log is damaged, or was changed by another process since this one read it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._head: str | None = None  # of the last verification or entry
        self.problem: str | None = None

    def write(self, entry: AuditEntry) -> None:
        """Append an entry durably; raise ChangeError if that fails, and the change must then not be made."""
        try:
            with self._path.open("a+b", buffering=0) as file:
                file.seek(0)
                data = file.readall()
                complete = data[: data.rfind(b"\n") + 1]  # a killed writer, or a full disk, left the rest
                head = _head(complete.splitlines())
                if self._head is not None and head != self._head:
                    self._report(f"{self._path}: changed by another process; its last entry was {self._head}.")
                line = entry.model_copy(update={"previous": head}).model_dump_json().encode()
                file.truncate(len(complete))
                try:
                    rest = line + b"\n"
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(len(complete))
                    raise
        except OSError as error:
            raise ChangeError(f"{self._path}: not writable ({error.strerror}); changes are rejected.") from error
        self._head = _digest(line)
        _export(len(complete.splitlines()) + 1, self._head, intact=self.problem is None)

    def entries(self, limit: int) -> list[AuditEntry]:
        """Return the last entries, the newest last, without damaged lines."""
        return [entry for entry in map(_parse, self._lines()[-limit:]) if entry is not None]

    def verify(self, head: str | None = None) -> AuditVerification:
        """Check that every line matches the line before it, and that `head`, the digest of a line, is among them."""
        try:
            lines = self._lines()
        except OSError as error:
            unreadable = f"{self._path}: not readable ({error.strerror})."
            return AuditVerification(entries=0, head=_NO_DIGEST, problem=unreadable)
        digest = _NO_DIGEST
        problem: str | None = None
        digests = {digest}
        for number, line in enumerate(lines, 1):
            entry = _parse(line)
            if problem is None and (entry is None or entry.previous != digest):
                problem = (
                    f"{self._path}: line {number} does not match the line before it; entries were changed or lost."
                )
            digest = _digest(line)
            digests.add(digest)
        if problem is None and head is not None and head not in digests:
            problem = f"{self._path}: no line has the digest {head}; the entries after it or before it were lost."
        return AuditVerification(entries=len(lines), head=digest, problem=problem)

    def check(self) -> None:
        """Verify the log at the start of a server, log a warning if it is damaged, and export its head as a metric."""
        result = self.verify()
        self._head = result.head
        if result.problem is not None:
            self._report(result.problem)
        _export(result.entries, result.head, intact=self.problem is None)

    def _report(self, problem: str) -> None:
        self.problem = problem
        logger.warning("%s", problem)

    def _lines(self) -> list[bytes]:
        """Return the complete lines; a killed writer may have left the beginning of another one."""
        data = self._path.read_bytes() if self._path.exists() else b""
        return data[: data.rfind(b"\n") + 1].splitlines()


def _export(entries: int, head: str, *, intact: bool) -> None:
    ENTRIES.set(entries)
    INTACT.set(intact)
    HEAD.info({"sha256": head})


def _head(lines: Sequence[bytes]) -> str:
    return _digest(lines[-1]) if lines else _NO_DIGEST


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _parse(line: bytes) -> AuditEntry | None:
    try:
        return AuditEntry.model_validate_json(line)
    except ValidationError:
        return None
