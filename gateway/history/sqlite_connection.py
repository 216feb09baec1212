"""SQLite connections of the history: threads, schema, and file permissions."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar, TypeVarTuple

from filelock import FileLock

from gateway.errors import HistoryError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

SCHEMA: Final = 4
"""`user_version` of the files that this release writes; it converts those of older schemas."""
_BUSY_TIMEOUT: Final = 0.6
"""Seconds to wait for another process' transaction; less than a prediction waits for the history."""
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
    domain TEXT,
    repair TEXT,
    certainty TEXT,
    prevalence REAL,
    profile TEXT,
    client TEXT NOT NULL,
    filename TEXT,
    folded TEXT,
    request_id TEXT NOT NULL,
    explained INTEGER NOT NULL DEFAULT 0,
    group_id TEXT,
    group_index INTEGER,
    group_size INTEGER
) STRICT
"""
_NEW_COLUMNS: Final = {
    "domain": "TEXT",
    "repair": "TEXT",
    "certainty": "TEXT",
    "prevalence": "REAL",
    "profile": "TEXT",
    "explained": "INTEGER NOT NULL DEFAULT 0",
    "group_id": "TEXT",
    "group_index": "INTEGER",
    "group_size": "INTEGER",
}
"""Columns that older schemas lack, and their types."""
_DETAILS: Final = """
CREATE TABLE IF NOT EXISTS details (
    row INTEGER PRIMARY KEY,
    document BLOB NOT NULL,
    overlay BLOB
) STRICT
"""
"""Apart from the results, so that lists do not read it."""
_DELETION: Final = """
CREATE TRIGGER IF NOT EXISTS results_delete AFTER DELETE ON results
BEGIN DELETE FROM details WHERE row = old.row; END
"""
_INDEXES: Final = {
    "results_time": "time, id",
    "results_model": "model, time, id",
    "results_label": "label, time, id",
    "results_client": "client, time, id",
    "results_image_sha256": "image_sha256, time, id",
    "results_group_id": "group_id, time, id",
}


class Connection:
    """A connection in its own thread; opened on first use, and again after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._connection: sqlite3.Connection | None = None

    async def run(self, operation: Callable[[sqlite3.Connection, *Arguments], T], *arguments: *Arguments) -> T:
        """Run an operation in the thread; raises HistoryError if the file cannot be used."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, operation, *arguments)

    async def close(self) -> None:
        """Close the file after all pending operations."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _run(self, operation: Callable[[sqlite3.Connection, *Arguments], T], *arguments: *Arguments) -> T:
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            return operation(self._connection, *arguments)
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise HistoryError(f"The history {self._path} is unavailable: {error}.") from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two processes that switch to the write-ahead log at the same time would both fail.
    with FileLock(path.with_name(f"{path.name}.lock"), mode=0o600):
        # SQLite would create the file with the umask; -wal and -shm inherit its mode. An existing file must not be
        # opened here: closing it would release the locks of other connections of this process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise HistoryError(f"The history {path} cannot use a write-ahead log; move it to a local disk.")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power failure may lose the last results, a crash does not
    connection.execute("PRAGMA secure_delete = ON")
    if version == SCHEMA:
        return
    with transaction(connection):
        if version == 0:
            connection.execute(_TABLE)
        else:
            # A gateway of the previous release may have reset the version of a file that is converted already.
            present = {row[1] for row in connection.execute("PRAGMA table_info(results)")}
            for name in (name for name in _NEW_COLUMNS if name not in present):
                connection.execute(f"ALTER TABLE results ADD COLUMN {name} {_NEW_COLUMNS[name]}")
            connection.execute("UPDATE results SET explained = 1 WHERE verb = 'explanations'")
        for statement in (_DETAILS, _DELETION):
            connection.execute(statement)
        for name, columns in _INDEXES.items():
            connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON results ({columns})")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema of a file, 0 if it is empty; raises HistoryError if this release cannot read it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if 1 <= version <= SCHEMA:
        return int(version)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version or tables:
        raise HistoryError(
            f"The history {path} has schema {version}, but this release reads schema {SCHEMA}; "
            "use another file, or the release that wrote it."
        )
    return 0


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """Run a block in a transaction; `IMMEDIATE` acquires the write lock at its start."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
