"""One SQLite file as one thread sees it: its schema, its rights, and what is said when it cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from gateway.errors import HistoryError

T = TypeVar("T")

SCHEMA: Final = 1
"""`user_version` of a file that is read and written here."""
_BUSY: Final = 0.6
"""Seconds to wait for another process' transaction: less than an answer waits for the history."""
_TABLE: Final = """
CREATE TABLE results (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time INTEGER NOT NULL,
    verb TEXT NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    image_sha256 TEXT NOT NULL,
    label TEXT NOT NULL,
    probability REAL,
    positive INTEGER,
    client TEXT NOT NULL,
    filename TEXT,
    folded TEXT,
    request_id TEXT NOT NULL
) STRICT
"""
_INDEXES: Final = {
    "results_time": "time, id",
    "results_model": "model, time, id",
    "results_label": "label, time, id",
    "results_client": "client, time, id",
}


class Connection:
    """A connection in a thread of its own; made when it is first needed, and again after it has failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection.

        Raises
        ------
        HistoryError
            If the file cannot be used.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        """Let go of the file, after what is under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise HistoryError(f"The history {self._path} cannot be used: {error}.") from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.parent):
        # SQLite would make it as open as the umask lets it; its -wal and -shm get the file's mode. One that is there
        # must not be opened here: closing it would take the locks of this process' other connection.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for who else prepares a file of a folder: two that switch to the write-ahead log at once both fail."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    new = _is_new(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise HistoryError(f"The history {path} can have no write-ahead log; put it on a disk of this machine.")
    # If the gateway dies nothing is lost; if the machine does, perhaps the last results.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
    if new:
        with transaction(connection):
            connection.execute(_TABLE)
            for name, columns in _INDEXES.items():
                connection.execute(f"CREATE INDEX {name} ON results ({columns})")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether there is nothing in a file yet; raises HistoryError if it has something else than is read here."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA:
        return False
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version or tables:
        raise HistoryError(
            f"The history {path} has the schema {version}, and this gateway reads {SCHEMA}; "
            "name another file, or run the release that wrote it."
        )
    return True


class transaction:  # noqa: N801 - used as a verb
    """Do what stands in a `with` wholly or not at all; `IMMEDIATE` takes the right to write at its beginning."""

    def __init__(self, connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> None:
        self._connection = connection
        self._kind = kind

    def __enter__(self) -> None:
        self._connection.execute(f"BEGIN {self._kind}")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("ROLLBACK" if kind else "COMMIT")
