"""Pages that count requests: all results of a request of which one matches, such as the slices of a series."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gateway.history import MAX_LIMIT, History, Page, Query, Result
from gateway.history.cursor import BETWEEN_REQUESTS, Position

_MAX_RESULTS: Final = 2000
"""Results after which a page ends early, unless all are of one request."""


async def find(history: History, query: Query) -> Page:
    """Return a page of at most `query.limit` requests of which a result matches, with all their results."""
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
    whole, matching = await _completed(history, query, results[:end])
    after = None if following is None else f"{BETWEEN_REQUESTS}{following}"
    return Page(results=tuple(whole), next=after, matching=matching)


async def _completed(
    history: History, query: Query, results: Sequence[Result]
) -> tuple[Sequence[Result], tuple[str, ...] | None]:
    """Return results with the others of their requests, and the ids of those that match; None if all do."""
    if not query.splits_requests:
        return results, None
    counts = Counter(result.group_id for result in results if result.group_id)
    sizes = {result.group_id: result.group_size for result in results}
    whole = {result.id: result for result in results}
    for group in (group for group, count in counts.items() if count != sizes[group]):
        others = Query(group=group, client=query.client, limit=MAX_LIMIT)
        while True:
            page = await history.find(others)
            whole |= {result.id: result for result in page.results}
            if page.next is None:
                break
            others = others.model_copy(update={"cursor": page.next})
    if len(whole) == len(results):
        return results, None
    return sorted(whole.values(), key=Position.of, reverse=True), tuple(result.id for result in results)


def _start(cursor: str | None) -> str | None:
    """Return where a page begins: after whole requests, or before all results of the time of another cursor."""
    if cursor is None or cursor.startswith(BETWEEN_REQUESTS):
        return cursor
    return Position.newest(Position.parse(cursor).time).cursor


def _end(results: Sequence[Result], limit: int, following: str | None) -> int:
    """Return how many results are those of complete requests, of at most `limit` (but at least one).

    Requests of the same millisecond may overlap; they stay together. Of a long page the complete requests are fewer.
    """
    stop = len(results)
    if following is not None:  # results of one request have the same time, so those of this time may continue
        time = Position.parse(following).time
        stop = next((index for index, result in enumerate(results) if Position.of(result).time <= time), stop)
    last = {_key(result): index for index, result in enumerate(results)}
    end, open_until = 0, 0
    sizes: dict[str, int] = {}  # of requests, with results that do not match
    for index, (key, result) in enumerate((_key(result), result) for result in results[:stop]):
        sizes[key] = result.group_size or 1
        open_until = max(open_until, last[key])
        if end and (len(sizes) > limit or sum(sizes.values()) > _MAX_RESULTS):
            break
        if index == open_until:
            end = index + 1
    return end


def _key(result: Result) -> str:
    """Return what the results of one request have in common; a result that was sent alone has only its id."""
    return result.group_id or result.id
