"""Pages that count requests: the results of one request, such as the slices of a series, stay on one page."""

from collections.abc import Sequence
from typing import Final

from gateway.history import MAX_LIMIT, History, Page, Query, Result
from gateway.history.cursor import BETWEEN_REQUESTS, Position

_MAX_RESULTS: Final = 2000
"""Results after which a page ends early, unless all are of one request."""


async def find(history: History, query: Query) -> Page:
    """Return a page of at most `query.limit` requests, with all their results that match."""
    results: list[Result] = []
    cursor = _start(query.cursor)
    limit = min(MAX_LIMIT, query.limit + 1)
    while True:
        page = await history.find(query.model_copy(update={"cursor": cursor, "limit": limit}))
        results += page.results
        end = _end(results, query.limit, page.next)
        is_exhausted = page.next is None or len(page.results) < limit
        is_full = len(results) >= _MAX_RESULTS or len(set(map(_key, results))) > query.limit
        if (end or not results) and (is_exhausted or is_full):
            break
        cursor, limit = page.next, MAX_LIMIT
    following = page.next if end == len(results) else Position.of(results[end - 1]).cursor
    return Page(results=tuple(results[:end]), next=None if following is None else f"{BETWEEN_REQUESTS}{following}")


def _start(cursor: str | None) -> str | None:
    """Return where a page begins: after whole requests, or before all results of the time of another cursor."""
    if cursor is None or cursor.startswith(BETWEEN_REQUESTS):
        return cursor
    return Position.newest(Position.parse(cursor).time).cursor


def _end(results: Sequence[Result], limit: int, following: str | None) -> int:
    """Return how many results are those of complete requests, of at most `limit` (but at least one).

    Requests of the same millisecond may overlap; they stay together.
    """
    stop = len(results)
    if following is not None:  # results of one request have the same time, so those of this time may continue
        time = Position.parse(following).time
        stop = next((index for index, result in enumerate(results) if Position.of(result).time <= time), stop)
    last = {_key(result): index for index, result in enumerate(results)}
    end, open_until = 0, 0
    keys: set[str] = set()
    for index, key in enumerate(map(_key, results[:stop])):
        keys.add(key)
        open_until = max(open_until, last[key])
        if end and len(keys) > limit:
            break
        if index == open_until:
            end = index + 1
    return end


def _key(result: Result) -> str:
    """Return what the results of one request have in common; a result that was sent alone has only its id."""
    return result.group_id or result.id
