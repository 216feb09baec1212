"""Result history in an SQLite file, for the gateways of one machine."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from gateway.history import NO_DETAILS, Details, Page, Query, Result, compression
from gateway.history.cursor import Position, bounds, from_microseconds, microseconds
from gateway.history.explanations import MAX_AGE, MAX_PREDICTIONS, Stored, assign, results_of
from gateway.history.sqlite_connection import SCHEMA, Connection, transaction

_MAX_EXAMINED: Final = 100_000
"""Rows that are examined for one page if no index answers the whole query."""
_BATCH: Final = 1000
"""Rows that one transaction deletes, so that others can write in between."""
_COLUMNS: Final = tuple(Result.model_fields)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)}"
_INDEXED: Final = ("group_id", "image_sha256", "client", "label", "model")
"""Filters with an index, the most selective first."""


class SqliteHistory:
    """Results in a file with a write-ahead log, so that readers and writers do not block each other.

    A page is read along an index that ends with (time, id), starting at the cursor; every page costs the same. A query
    with several filters, or a text, uses the index of one filter and examines at most 100 000 rows. The page then
    holds the matches among these, and a cursor for the rest.

    One thread writes, another one reads. A write that is cancelled while it runs may still succeed.
    """

    def __init__(self, path: Path) -> None:
        self._writer = Connection(path)
        self._reader = Connection(path)

    async def add(self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS) -> None:
        """Add results, all or none; results that exist remain unchanged."""
        await self._writer.run(_add, results, details)

    async def find(self, query: Query) -> Page:
        """Return a page."""
        return await self._reader.run(_find, query, *bounds(query))

    async def get(self, result_id: str) -> Result | None:
        """Return a result."""
        return await self._reader.run(_get, result_id)

    async def details(self, result_id: str) -> Details | None:
        """Return the details of a result."""
        return await self._reader.run(_details, result_id)

    async def add_explanations(
        self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS
    ) -> Mapping[str, Result]:
        """Add explanations in one transaction."""
        return await self._writer.run(_add_explanations, results, details)

    async def delete(self, result_id: str) -> bool:
        """Delete a result."""
        return await self._writer.run(_delete, result_id)

    async def expire(self, before: datetime) -> int:
        """Delete old results in batches."""
        total, count = 0, _BATCH
        while count == _BATCH:
            count = await self._writer.run(_expire, microseconds(before))
            total += count
        return total

    async def ping(self) -> None:
        """Write to the file: on a full disk it can still be read."""
        await self._writer.run(_touch)

    async def close(self) -> None:
        """Close the file."""
        await self._reader.close()
        await self._writer.close()


def _add(connection: sqlite3.Connection, results: Sequence[Result], details: Mapping[str, Details]) -> None:
    with transaction(connection):
        _insert(connection, results, details)


def _insert(connection: sqlite3.Connection, results: Sequence[Result], details: Mapping[str, Details]) -> None:
    names = (*_COLUMNS, "folded")
    values = ", ".join(f":{name}" for name in names)
    insert = f"INSERT INTO results ({', '.join(names)}) VALUES ({values}) ON CONFLICT (id) DO NOTHING"  # noqa: S608 - constant names
    connection.executemany(insert, map(_to_row, results))
    insert = "INSERT OR IGNORE INTO details (row, document, overlay) SELECT row, ?, ? FROM results WHERE id = ?"
    rows = [(details[result.id], result.id) for result in results if result.id in details]
    connection.executemany(insert, [(compression.pack(item.prediction), item.overlay, key) for item, key in rows])


def _details(connection: sqlite3.Connection, result_id: str) -> Details | None:
    select = "SELECT document, overlay FROM details WHERE row = (SELECT row FROM results WHERE id = ?)"
    row = connection.execute(select, (result_id,)).fetchone()
    return Details(compression.unpack(row[0]), row[1]) if row else None


def _add_explanations(
    connection: sqlite3.Connection, results: Sequence[Result], details: Mapping[str, Details]
) -> dict[str, Result]:
    explanations = [(result, details[result.id].prediction) for result in results if result.id in details]
    update = "UPDATE details SET document = ?, overlay = coalesce(?, overlay) WHERE row = ?"
    with transaction(connection):
        assigned = assign(explanations, _recent_predictions(connection, results))
        for explanation_id, (prediction, document) in assigned.items():
            mark = "UPDATE results SET explained = 1 WHERE id = ? RETURNING row"
            (row,) = connection.execute(mark, (prediction.id,)).fetchone()
            connection.execute(update, (compression.pack(document), details[explanation_id].overlay, row))
        _insert(connection, results_of(results, assigned), details)
    return {explanation_id: prediction for explanation_id, (prediction, _) in assigned.items()}


def _recent_predictions(connection: sqlite3.Connection, explanations: Sequence[Result]) -> list[Stored]:
    """Return the predictions of the same images, newest first for each image."""
    select = (
        f"{_SELECT}, document FROM results INDEXED BY results_image_sha256 JOIN details USING (row) "
        "WHERE image_sha256 = ? AND time >= ? AND client = ? AND verb = 'predictions' "
        f"ORDER BY time DESC, id DESC LIMIT {MAX_PREDICTIONS}"
    )
    parameters = {
        explanation.image_sha256: (microseconds(explanation.time - MAX_AGE), explanation.client)
        for explanation in explanations
    }
    rows = [row for image, others in parameters.items() for row in connection.execute(select, (image, *others))]
    return [(_from_row(row[:-1]), compression.unpack(row[-1])) for row in rows]


def _find(connection: sqlite3.Connection, query: Query, low: Position, high: Position) -> Page:
    filters = query.values
    first = next((name for name in _INDEXED if name in filters), None)
    scan = (
        f"FROM results INDEXED BY results_{first or 'time'} WHERE (time, id) < (:high, :high_id) AND time >= :low"
        + (f" AND {first} = :{first}" if first else "")
        + " ORDER BY time DESC, id DESC LIMIT"
    )
    conditions = [f"{name} = :{name}" for name in filters if name != first]
    if query.text is not None:
        conditions.append("(instr(folded, :text) OR instr(id, :text) OR instr(image_sha256, :text))")
    values = filters | {"low": low.time, "high": high.time, "high_id": str(high.id)}
    values |= {"text": (query.text or "").casefold(), "limit": query.limit + 1, "examined": _MAX_EXAMINED}
    with transaction(connection, "DEFERRED"):
        if not conditions:
            return _page(connection.execute(f"{_SELECT} {scan} :limit", values).fetchall(), query.limit, None)
        select = f"{_SELECT} FROM (SELECT * {scan} :examined) WHERE {' AND '.join(conditions)} LIMIT :limit"
        rows = connection.execute(select, values).fetchall()
        end = connection.execute(f"SELECT time, id {scan} 1 OFFSET :examined - 1", values).fetchone()
    return _page(rows, query.limit, end)


def _page(rows: list[tuple[Any, ...]], limit: int, end: tuple[int, str] | None) -> Page:
    """Return a page; `end` is the last row that was examined, None if no rows follow."""
    results = tuple(map(_from_row, rows[:limit]))
    if len(rows) > limit:
        return Page(results=results, next=Position.of(results[-1]).cursor)
    return Page(results=results, next=Position(end[0], UUID(end[1])).cursor if end else None)


def _get(connection: sqlite3.Connection, result_id: str) -> Result | None:
    row = connection.execute(f"{_SELECT} FROM results WHERE id = ?", (result_id,)).fetchone()
    return _from_row(row) if row else None


def _delete(connection: sqlite3.Connection, result_id: str) -> bool:
    return connection.execute("DELETE FROM results WHERE id = ?", (result_id,)).rowcount == 1


def _expire(connection: sqlite3.Connection, before: int) -> int:
    delete = (
        "DELETE FROM results WHERE row IN "
        "(SELECT row FROM results INDEXED BY results_time WHERE time < ? ORDER BY time LIMIT ?)"
    )
    return connection.execute(delete, (before, _BATCH)).rowcount


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _to_row(result: Result) -> dict[str, Any]:
    folded = None if result.filename is None else result.filename.casefold()
    return result.model_dump() | {"time": microseconds(result.time), "folded": folded}


def _from_row(row: tuple[Any, ...]) -> Result:
    values = dict(zip(_COLUMNS, row, strict=True))
    positive = None if values["positive"] is None else bool(values["positive"])
    booleans = {"positive": positive, "explained": bool(values["explained"])}
    return Result(**values | booleans | {"time": from_microseconds(values["time"])})
