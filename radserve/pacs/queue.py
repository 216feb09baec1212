"""Durable queue of jobs in SQLite: one job per image and model, also if it is sent twice or a process dies."""

import contextlib
import logging
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, get_args

from pydicom.dataset import Dataset

from radserve.errors import PacsError
from radserve.files import PART_SUFFIX, create_atomically
from radserve.pacs.settings import Retry, Rule
from radserve.schema.cases import CaseState

STATES: Final[tuple[CaseState, ...]] = get_args(CaseState)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    instance TEXT NOT NULL, study TEXT NOT NULL,
    rule TEXT NOT NULL, model TEXT NOT NULL, version TEXT NOT NULL,  -- empty if no rule applies, or version is open
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    file TEXT NOT NULL,                                              -- name in the folder of images
    archive TEXT NOT NULL DEFAULT '',                                -- sha256, once predicted
    tries INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
    claimed INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, changed REAL NOT NULL,
    UNIQUE (instance, model, version)
) STRICT;
CREATE TABLE IF NOT EXISTS notices (
    uid TEXT PRIMARY KEY, job INTEGER NOT NULL, body TEXT NOT NULL,  -- body: empty once it is delivered
    tries INTEGER NOT NULL DEFAULT 0, due REAL, changed REAL NOT NULL -- due: null until the results are stored
) STRICT;
CREATE INDEX IF NOT EXISTS notices_due ON notices (due) WHERE body != '';
CREATE TABLE IF NOT EXISTS results (uid TEXT PRIMARY KEY, changed REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursors (
    source TEXT NOT NULL, key TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (source, key)
) STRICT;
"""
_VERSION: Final = 1  # PRAGMA user_version of a queue with this schema
_ADDED: Final = {
    "series": "TEXT NOT NULL DEFAULT ''",
    "queued": "REAL NOT NULL DEFAULT 0",  # when it arrived, or was sent again
    "notice": "TEXT NOT NULL DEFAULT ''",  # uid of the message about its result
}
"""Further columns of jobs, which earlier releases lack. Their reasons may quote who the patient is."""
_UPDATES: Final = """
UPDATE jobs SET queued = changed WHERE queued = 0;
UPDATE jobs SET notice = coalesce((SELECT uid FROM notices WHERE job = jobs.id AND due IS NULL), '');
UPDATE jobs SET reason = 'No rule matches.' WHERE reason LIKE 'Rule %';
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (state, claimed, due);
CREATE INDEX IF NOT EXISTS jobs_notice ON jobs (notice) WHERE notice != '';
"""
_NEW: Final = """
INSERT INTO jobs (instance, series, study, rule, model, version, state, reason, file, due, changed, queued)
VALUES (:instance, :series, :study, :rule, :model, :version, :state, :reason, :file, :now, :now, :now)
ON CONFLICT DO UPDATE SET state = excluded.state, rule = excluded.rule, reason = excluded.reason, file = excluded.file,
    archive = '', tries = 0, failures = 0, due = excluded.due, changed = excluded.changed, queued = excluded.queued
WHERE jobs.state IN ('rejected', 'dead') OR (jobs.state = 'done' AND jobs.archive != (
    SELECT archive FROM jobs AS newest
    WHERE newest.model = jobs.model AND newest.version = jobs.version AND archive != ''
    ORDER BY newest.changed DESC LIMIT 1))
"""
"""An image that is sent again is analysed again if it has no result, or the model has a new archive since."""
_CLAIM: Final = """
UPDATE jobs SET claimed = 1, state = CASE state WHEN 'received' THEN 'predicting' ELSE state END, changed = :now
WHERE id = (
    SELECT id FROM jobs WHERE state IN ('received', 'storing') AND claimed = 0 AND due <= :now ORDER BY due, id LIMIT 1
) RETURNING *
"""
_FILES: Final = "SELECT file FROM jobs WHERE state NOT IN ('done', 'rejected')"  # a dead job may be tried again
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One image to be analysed by one model."""

    id: int
    instance: str
    series: str
    study: str
    rule: str
    model: str
    version: str | None
    state: CaseState
    reason: str
    file: str
    archive: str
    tries: int
    failures: int
    claimed: int
    due: float
    changed: float
    queued: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read a row."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**values | {"version": row["version"] or None})


@dataclass(frozen=True)
class Notice:
    """A message about a result; `uid` is that of the result's report."""

    uid: str
    job: int
    body: str
    tries: int


class Queue:
    """Jobs, the files of their images and results, and the cursors of the sources; safe for threads."""

    def __init__(self, folder: Path) -> None:
        self.images, self.results = folder / "images", folder / "results"
        for path in (self.images, self.results):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)  # it holds images of patients
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            folder / "queue.sqlite3", isolation_level=None, check_same_thread=False, timeout=30
        )
        self._database.row_factory = sqlite3.Row
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        with self._transaction() as database:
            if database.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
                _update(database)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def recover(self) -> None:
        """Return jobs to the queue that another process left, and delete files without a job; call it at start."""
        with self._transaction() as database:
            database.execute("UPDATE jobs SET state = 'received' WHERE state = 'predicting'")
            database.execute("UPDATE jobs SET claimed = 0")
            known = {row["file"] for row in database.execute(_FILES)}
            storing = {row["id"] for row in database.execute("SELECT id FROM jobs WHERE state IN ('storing', 'dead')")}
        for path in self.images.iterdir():
            if path.name not in known:
                path.unlink()
        for path in self.results.iterdir():
            number = path.name.partition("-")[0]
            if path.suffix == PART_SUFFIX or not number.isdigit() or int(number) not in storing:
                path.unlink()

    def add(self, header: Dataset, content: bytes, rules: Sequence[Rule]) -> int:
        """Add a job for each rule; the image is durable when this returns. Returns the number of new jobs."""
        file, instance = f"{uuid.uuid4().hex}.dcm", (str(header.SOPInstanceUID),)
        create_atomically(self.images / file, content, mode=0o600)
        added = 0
        try:
            with self._transaction() as database:
                old = database.execute("SELECT file FROM jobs WHERE instance = ?", instance).fetchall()
                database.execute("DELETE FROM jobs WHERE instance = ? AND model = ''", instance)
                for rule in rules:
                    target = {"rule": rule.name, "model": rule.model, "version": rule.version or ""}
                    added += database.execute(
                        _NEW, _identity(header) | target | {"state": "received", "reason": "", "file": file}
                    ).rowcount
                used = {row["file"] for row in database.execute(_FILES)}
        except BaseException:
            (self.images / file).unlink(missing_ok=True)
            raise
        _delete(self.images / name for name in {file, *(row["file"] for row in old)} - used - {""})
        return added

    def reject(self, header: Dataset, reason: str) -> None:
        """Record that no rule applies to an image."""
        nothing = {"rule": "", "model": "", "version": "", "state": "rejected", "reason": reason, "file": ""}
        with self._transaction() as database:
            database.execute(_NEW, _identity(header) | nothing)

    def knows(self, instance: str, rules: Sequence[Rule]) -> bool:
        """Return whether every rule has a job for an image that needs no further copy of it.

        A new archive makes no difference: a source that is read again would have all its images analysed again.
        """
        query = (
            "SELECT 1 FROM jobs WHERE instance = ? AND model = ? AND version = ? AND state NOT IN ('rejected', 'dead')"
        )
        return all(self._one(query, instance, rule.model, rule.version or "") for rule in rules)

    def claim(self) -> Job | None:
        """Return a job that is due, and claim it."""
        with self._transaction() as database:
            row = database.execute(_CLAIM, {"now": time.time()}).fetchone()
        return None if row is None else Job.of(row)

    def predicted(self, job: Job, archive: str, uids: Sequence[str], notice: tuple[str, str] | None = None) -> None:
        """Record that the results of a job are on disk, before one is sent: they must not be analysed themselves.

        `notice` is the UID and the body of a message that is due once the results are stored.
        """
        now = time.time()
        with self._transaction() as database:
            rows = [(uid, now) for uid in uids]
            database.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)
            database.execute(
                "UPDATE jobs SET state = 'storing', archive = ?, tries = 0, changed = ?, notice = ? WHERE id = ?",
                (archive, now, "" if notice is None else notice[0], job.id),
            )
            database.execute(  # of earlier tries
                "DELETE FROM notices WHERE due IS NULL AND uid NOT IN (SELECT notice FROM jobs WHERE notice != '')"
            )
            if notice is not None:
                database.execute(
                    "INSERT OR IGNORE INTO notices (uid, job, body, changed) VALUES (?, ?, ?, ?)",
                    (notice[0], job.id, notice[1], now),
                )

    def is_result(self, uid: str) -> bool:
        """Return whether an object is a result of this loop."""
        return self._one("SELECT 1 FROM results WHERE uid = ?", uid) is not None

    def finish(self, job: Job, state: CaseState, reason: str = "") -> None:
        """End a job, and delete files that no job needs."""
        now = time.time()
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = ?, reason = ?, claimed = 0, changed = ? WHERE id = ?",
                (state, reason, now, job.id),
            )
            if state == "done":
                database.execute(
                    "UPDATE notices SET due = ? WHERE uid = (SELECT notice FROM jobs WHERE id = ?) AND due IS NULL",
                    (now, job.id),
                )
            used = database.execute(_FILES + " AND file = ?", (job.file,)).fetchone()
        if state == "dead":
            return
        if used is None:
            _delete([self.images / job.file])
        _delete(self.result_files(job))

    def retry(self, job: Job, reason: str, settings: Retry, *, counts: bool) -> CaseState:
        """Try a job again after a pause; one with too many failures that count is dead. Returns its state."""
        failures = job.failures + counts
        now = time.time()
        with self._transaction() as database:
            row = database.execute(
                "UPDATE jobs SET state = CASE WHEN ? THEN 'dead' WHEN state = 'predicting' THEN 'received' ELSE state"
                " END, reason = ?, tries = tries + 1, failures = ?, claimed = 0, due = ?, changed = ? WHERE id = ?"
                " RETURNING state",
                (failures >= settings.attempts, reason, failures, now + pause_after(job.tries, settings), now, job.id),
            ).fetchone()
        state: CaseState = row["state"]
        return state

    def resend(self, number: int | None = None) -> int:
        """Return dead jobs to the queue, all or one; returns how many.

        Those of all whose image is missing stay dead, with that reason; alone, such a job raises PacsError.
        """
        sent = 0
        with self._transaction() as database:
            rows = database.execute(
                "SELECT id, file FROM jobs WHERE state = 'dead' AND (?1 IS NULL OR id = ?1)", (number,)
            ).fetchall()
            for row in rows:
                if not (self.images / row["file"]).exists():
                    if number is not None:
                        raise PacsError(f"The image of job {number} is missing; send it again.")
                    logger.warning("job %d cannot be sent again: its image is missing", row["id"])
                    reason = "The image is missing; send it again."
                    database.execute("UPDATE jobs SET reason = ? WHERE id = ?", (reason, row["id"]))
                    continue
                sent += 1
                database.execute(
                    "UPDATE jobs SET state = 'received', reason = '', tries = 0, failures = 0, claimed = 0, due = ?1,"
                    " queued = ?1 WHERE id = ?2",
                    (time.time(), row["id"]),
                )
        return sent

    def jobs(self, state: CaseState | None = None, limit: int = 1000, after: int | None = None) -> list[Job]:
        """Return jobs, the newest first; `after` is the id of the last one of the page before."""
        query = (
            "SELECT * FROM jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3"
        )
        with self._lock, closing(self._database.execute(query, (state, after, limit))) as rows:
            return [Job.of(row) for row in rows]

    def waiting_since(self) -> float | None:
        """Return when the oldest job that waits or is in progress was queued."""
        row = self._one("SELECT min(queued) AS time FROM jobs WHERE state IN ('received', 'predicting', 'storing')")
        return None if row is None else row["time"]

    def notices(self) -> int:
        """Return the number of messages that wait for delivery."""
        row = self._one("SELECT count(*) AS number FROM notices WHERE body != '' AND due IS NOT NULL")
        return 0 if row is None else int(row["number"])

    def due_notice(self) -> Notice | None:
        """Return a message that is due."""
        query = "SELECT uid, job, body, tries FROM notices WHERE body != '' AND due <= ? ORDER BY due LIMIT 1"
        row = self._one(query, time.time())
        return None if row is None else Notice(**row)

    def delivered(self, notice: Notice) -> None:
        """Record that a message arrived; its row remains, so that the same result gives no second one."""
        with self._transaction() as database:
            database.execute("UPDATE notices SET body = '', changed = ? WHERE uid = ?", (time.time(), notice.uid))

    def postpone(self, notice: Notice, settings: Retry) -> None:
        """Send a message again after a pause."""
        due = time.time() + pause_after(notice.tries, settings)
        with self._transaction() as database:
            database.execute("UPDATE notices SET tries = tries + 1, due = ? WHERE uid = ?", (due, notice.uid))

    def counts(self) -> dict[CaseState, int]:
        """Return the number of jobs in each state."""
        with self._lock:
            rows = self._database.execute("SELECT state, count(*) AS number FROM jobs GROUP BY state").fetchall()
        return dict.fromkeys(STATES, 0) | {row["state"]: row["number"] for row in rows}

    def cursor(self, source: str, key: str = "") -> int | None:
        """Return the position up to which a source was read; None at first."""
        row = self._one("SELECT value FROM cursors WHERE source = ? AND key = ?", source, key)
        return None if row is None else int(row["value"])

    def has_cursors(self) -> bool:
        """Return whether a source was read."""
        return self._one("SELECT 1 FROM cursors") is not None

    def advance(self, source: str, value: int, key: str = "") -> None:
        """Record the position up to which a source was read; call it once its images are in the queue."""
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (source, key, value))

    def forget(self, before: float) -> None:
        """Delete finished jobs, messages and identifiers of results that were last changed before a time."""
        with self._transaction() as database:
            database.execute("DELETE FROM jobs WHERE state IN ('done', 'rejected') AND changed < ?", (before,))
            database.execute("DELETE FROM results WHERE changed < ?", (before,))
            rows = database.execute("DELETE FROM notices WHERE changed < ? RETURNING job, body", (before,)).fetchall()
        for row in rows:
            if row["body"]:
                logger.error("the message about job %d was never delivered and is deleted", row["job"])

    def result_files(self, job: Job) -> list[Path]:
        """Return the results of a job that are on disk."""
        return sorted(path for path in self.results.glob(f"{job.id}-*") if path.suffix == ".dcm")

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._database.execute(query, values).fetchone()
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise


def _update(database: sqlite3.Connection) -> None:
    """Create the tables, or update those of an earlier release, within a transaction."""
    for statement in _SCHEMA.split(";\n"):  # executescript would commit
        database.execute(statement)
    present = {row["name"] for row in database.execute("PRAGMA table_info(jobs)")}
    for column, kind in _ADDED.items():
        if column not in present:
            database.execute(f"ALTER TABLE jobs ADD COLUMN {column} {kind}")
    for statement in _UPDATES.split(";\n"):
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {_VERSION}")


def _delete(paths: Iterable[Path]) -> None:
    """Delete files that no job needs; the next start deletes those that fail."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("failed to delete a file (%s)", type(error).__name__)


def pause_after(tries: int, settings: Retry) -> float:
    """Return the seconds until the next try: doubled for each, with jitter."""
    return float(min(settings.longest, settings.first * 2 ** min(tries, 30)) * random.uniform(0.5, 1))  # noqa: S311


def _identity(header: Dataset) -> dict[str, Any]:
    keywords = {"instance": "SOPInstanceUID", "series": "SeriesInstanceUID", "study": "StudyInstanceUID"}
    return {name: str(header.get(keyword, "")) for name, keyword in keywords.items()} | {"now": time.time()}
