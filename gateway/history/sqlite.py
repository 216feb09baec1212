"""Results in an SQLite file: embedded, for one machine; several gateways of it may share one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gateway.history import Page, Query, Result
from gateway.history.cursor import Place, bounds, microseconds, moment
from gateway.history.sqlite_connection import SCHEMA, Connection, transaction

_EXAMINED: Final = 100_000
"""Rows that are looked at for one page, where no index answers the whole query."""
_AT_ONCE: Final = 1000
"""Rows that are deleted in one transaction: others get to write in between."""
_COLUMNS: Final = tuple(Result.model_fields)
_BY: Final = ("client", "label", "model")
"""Filters that have an index, the one that leaves least first."""


class Sqlite:
    """Results in a file, with a write-ahead log: reading and writing do not wait for each other.

    A page is read along an index whose end is (time, id), from the cursor on, so the last one costs what the first
    does. A query with several filters, or a text, follows the index of one and looks at no more than 100 000 rows; the
    page then has what was found among them, and a cursor for the rest.

    One thread writes, another one reads. What is cancelled while it is being written may be kept nevertheless.
    """

    def __init__(self, path: Path) -> None:
        self._writer = Connection(path)
        self._reader = Connection(path)

    async def open(self) -> None:
        """Make the file, if there is none."""
        await self.ping()

    async def add(self, results: Sequence[Result]) -> None:
        """Keep results, all or none; those that are there stay as they are."""
        await self._writer.run(partial(_add, results=results))

    async def find(self, query: Query) -> Page:
        """Return a page."""
        low, high = bounds(query)
        return await self._reader.run(partial(_find, query=query, low=low, high=high))

    async def get(self, identity: str) -> Result | None:
        """Return one result."""
        return await self._reader.run(partial(_get, identity=identity))

    async def delete(self, identity: str) -> bool:
        """Forget one result."""
        return await self._writer.run(partial(_delete, identity=identity))

    async def expire(self, before: datetime) -> int:
        """Forget old results, some at a time."""
        gone, last = 0, _AT_ONCE
        while last == _AT_ONCE:
            last = await self._writer.run(partial(_expire, before=microseconds(before)))
            gone += last
        return gone

    async def ping(self) -> None:
        """Write something: a full disk can still be read."""
        await self._writer.run(_touch)

    async def close(self) -> None:
        """Close the file."""
        await self._reader.close()
        await self._writer.close()


def _add(connection: sqlite3.Connection, results: Sequence[Result]) -> None:
    names = (*_COLUMNS, "folded")
    values = ", ".join(f":{name}" for name in names)
    with transaction(connection):
        connection.executemany(
            f"INSERT INTO results ({', '.join(names)}) VALUES ({values}) ON CONFLICT (id) DO NOTHING",  # noqa: S608 - names of our own
            map(_row, results),
        )


def _find(connection: sqlite3.Connection, query: Query, low: Place, high: Place) -> Page:
    filters = {name: value for name in _BY if (value := getattr(query, name)) is not None}
    first = next(iter(filters), None)
    along = (
        f"FROM results INDEXED BY results_{first or 'time'} WHERE (time, id) < (:high, :high_id) AND time >= :low"
        + (f" AND {first} = :{first}" if first else "")
        + " ORDER BY time DESC, id DESC LIMIT"
    )
    rest = [f"{name} = :{name}" for name in filters if name != first]
    if query.text is not None:
        rest.append("(instr(folded, :text) OR instr(id, :text) OR instr(image_sha256, :text))")
    values = filters | {"low": low.time, "high": high.time, "high_id": str(high.id)}
    values |= {"text": (query.text or "").casefold(), "limit": query.limit + 1, "examined": _EXAMINED}
    with transaction(connection, "DEFERRED"):
        if not rest:
            rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} {along} :limit", values).fetchall()
            return _page(rows, query.limit, None)
        within = f"(SELECT * {along} :examined) WHERE {' AND '.join(rest)}"
        found = f"SELECT {', '.join(_COLUMNS)} FROM {within} LIMIT :limit"  # noqa: S608 - names of our own
        rows = connection.execute(found, values).fetchall()
        end = connection.execute(f"SELECT time, id {along} 1 OFFSET :examined - 1", values).fetchone()
    return _page(rows, query.limit, end)


def _page(rows: list[tuple[Any, ...]], limit: int, end: tuple[int, str] | None) -> Page:
    """Return a page; `end` is the last row that was looked at, None where there is none after it."""
    results = tuple(map(_result, rows[:limit]))
    if len(rows) > limit:
        return Page(results, Place.of(results[-1]).cursor)
    return Page(results, Place(end[0], UUID(end[1])).cursor if end else None)


def _get(connection: sqlite3.Connection, identity: str) -> Result | None:
    query = f"SELECT {', '.join(_COLUMNS)} FROM results WHERE id = ?"  # noqa: S608 - names of our own
    row = connection.execute(query, (identity,)).fetchone()
    return _result(row) if row else None


def _delete(connection: sqlite3.Connection, identity: str) -> bool:
    return connection.execute("DELETE FROM results WHERE id = ?", (identity,)).rowcount == 1


def _expire(connection: sqlite3.Connection, before: int) -> int:
    old = "SELECT row FROM results INDEXED BY results_time WHERE time < ? ORDER BY time LIMIT ?"
    forget = f"DELETE FROM results WHERE row IN ({old})"  # noqa: S608 - nothing of it comes from elsewhere
    return connection.execute(forget, (before, _AT_ONCE)).rowcount


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _row(result: Result) -> dict[str, Any]:
    folded = None if result.filename is None else result.filename.casefold()
    return result.model_dump() | {"time": microseconds(result.time), "folded": folded}


def _result(row: tuple[Any, ...]) -> Result:
    values = dict(zip(_COLUMNS, row, strict=True))
    positive = values["positive"]
    return Result(**values | {"time": moment(values["time"]), "positive": None if positive is None else bool(positive)})
