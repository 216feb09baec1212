"""Pages that count requests: the results of one request, such as the slices of a series, stay on one page."""

from collections.abc import Sequence
from typing import Final

from gateway.history import MAX_LIMIT, History, Page, Query, Result
from gateway.history.cursor import Position

_MAX_RESULTS: Final = 2000
"""Results after which a page ends early, unless all are of one request."""


async def find(history: History, query: Query) -> Page:
    """Return a page of at most `query.limit` requests, with all their results that match."""
    results = await _split_request(history, query)
    cursor = Position.of(results[-1]).cursor if results else query.cursor
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
    return Page(results=tuple(results[:end]), next=following)


async def _split_request(history: History, query: Query) -> list[Result]:
    """Return the matching results of the request that a cursor for single results splits; none without one."""
    if query.cursor is None:
        return []
    last = await history.get(str(Position.parse(query.cursor).id))
    if last is None or last.group_id is None:
        return []
    following = await history.find(query.model_copy(update={"limit": 1}))
    if not any(result.group_id == last.group_id for result in following.results):
        return []
    request = query.model_copy(update={"group": last.group_id, "cursor": None, "limit": MAX_LIMIT})
    results: list[Result] = []
    while True:
        page = await history.find(request)
        results += page.results
        if page.next is None:
            return results
        request = request.model_copy(update={"cursor": page.next})


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
    keys: set[tuple[str, ...]] = set()
    for index, key in enumerate(map(_key, results[:stop])):
        keys.add(key)
        open_until = max(open_until, last[key])
        if end and len(keys) > limit:
            break
        if index == open_until:
            end = index + 1
    return end


def _key(result: Result) -> tuple[str, ...]:
    """Return what the results of one request have in common; older releases stored no `group_id`."""
    if result.group_id is not None:
        return (result.group_id,)
    if not result.request_id:
        return (result.id,)
    return (result.request_id, str(result.time), result.model, result.version, result.client, result.verb)
