"""Pages that count requests, in every history store."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.history import History, Page, Query, Result, request_pages
from tests.gateway.history.conftest import Store
from tests.gateway.history.results import result


def request(seconds: float, count: int, **changes: Any) -> list[Result]:
    """Return results that were sent together, the newest first."""
    group = {"group_id": f"group {seconds}", "group_size": count} | changes
    results = sorted((result(seconds, **group) for _ in range(count)), key=lambda item: item.id)
    return [item.model_copy(update={"group_index": index}) for index, item in enumerate(results)][::-1]


async def all_pages(history: History, **query: Any) -> list[list[Result]]:
    pages: list[Page] = []
    while not pages or pages[-1].next is not None:
        pages.append(await request_pages.find(history, Query(**query)))
        query["cursor"] = pages[-1].next
    return [list(page.results) for page in pages]


def paged(store: Store, results: Sequence[Result], **query: Any) -> list[list[Result]]:
    async def work(history: History) -> list[list[Result]]:
        await history.add(results)
        return await all_pages(history, **query)

    return store.run(work)


def test_a_request_counts_once_and_is_never_split(store: Store) -> None:
    single, series, long = [result(1)], request(2, 7), request(3, 450)
    alone, other = [result(4)], request(5, 3)
    parts = [single, series, long, alone, other]
    pages = paged(store, list(itertools.chain(*parts)), limit=2)
    assert pages == [single + series, long + alone, other]


def test_a_page_of_very_long_requests_ends_early(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.history.request_pages._MAX_RESULTS", 20)
    monkeypatch.setattr("gateway.history.request_pages.MAX_LIMIT", 10)
    parts = [request(1, 30), request(2, 8), request(3, 8), request(4, 8)]
    pages = paged(store, list(itertools.chain(*parts)), limit=10)
    assert list(itertools.chain(*pages)) == list(itertools.chain(*parts))
    assert len(pages) > 1
    assert all(
        len({item.group_id for item in page} & {item.group_id for item in more}) == 0
        for page, more in itertools.combinations(pages, 2)
    )


def test_a_filter_selects_whole_requests_and_says_which_results_match(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.history.request_pages.MAX_LIMIT", 3)
    parts = [request(1, 4), request(2, 2), request(3, 4, client="other"), [result(4, positive=True)]]
    marked = [item.model_copy(update={"positive": True}) for part in (parts[0], parts[2]) for item in part[1:3]]
    changed = {item.id: item for item in marked}
    parts = [[changed.get(item.id, item) for item in part] for part in parts]
    added = list(itertools.chain(*parts))

    async def work(history: History) -> list[Page]:
        await history.add(added)
        return [
            await request_pages.find(history, Query(**query))
            for query in (
                {"positive": True},
                {"positive": True, "limit": 1},
                {"positive": True, "client": "ward-7"},
                {"text": marked[0].id},
                {"client": "other"},
            )
        ]

    all_marked, first, own, text, other = store.run(work)
    assert list(all_marked.results) == [*parts[0], *parts[2], *parts[3]]
    assert all_marked.matching == (*(item.id for item in marked), parts[3][0].id)
    assert (list(first.results), first.matching) == (parts[0], tuple(item.id for item in marked[:2]))
    assert list(own.results) == [*parts[0], *parts[3]]
    assert (list(text.results), text.matching) == (parts[0], (marked[0].id,))
    assert (list(other.results), other.matching) == (parts[2], None)
    assert paged(store, added, limit=1, group="group 2") == [parts[1]]
    assert paged(store, added, text="no such name") == [[]]


def test_a_page_counts_the_results_that_do_not_match(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.history.request_pages._MAX_RESULTS", 20)
    parts = [request(seconds, 8) for seconds in (1, 2, 3)]
    parts = [[part[0].model_copy(update={"positive": True}), *part[1:]] for part in parts]
    pages = paged(store, list(itertools.chain(*parts)), positive=True)
    assert pages == [[*parts[0], *parts[1]], parts[2]]


def test_few_matches_end_a_page_with_a_cursor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("redis", "sqlite"):
        monkeypatch.setattr(f"gateway.history.{kind}._MAX_EXAMINED", 4)
    monkeypatch.setattr("gateway.history.redis._BATCH", 4)
    parts = [
        request(1, 3, filename="Head"),
        *([result(seconds)] for seconds in range(2, 20)),
        request(20, 6, filename="Head"),
    ]
    pages = paged(store, list(itertools.chain(*parts)), text="head")
    assert [page for page in pages if page] == [parts[0], parts[-1]]
    assert len(pages) > 2


def test_cursors_of_pages_of_results_and_of_requests_lose_nothing(store: Store) -> None:
    parts = [request(1, 5), [result(2)]]
    mixed = sorted(request(3, 6) + request(3, 6, group_id="other"), key=lambda item: item.id, reverse=True)

    async def work(history: History) -> None:
        await history.add([*itertools.chain(*parts), *mixed])
        for limit, expected in ((3, [*parts[0], *parts[1], *mixed]), (6, [*parts[1], *mixed]), (9, mixed)):
            cursor = (await history.find(Query(limit=limit))).next
            assert list(itertools.chain(*await all_pages(history, cursor=cursor, limit=1))) == expected
        cursor = (await request_pages.find(history, Query(limit=1))).next
        assert (await history.find(Query(cursor=cursor))).results == (*parts[1], *mixed)

    store.run(work)


def test_requests_of_the_same_time_stay_together_and_older_releases_stored_none(store: Store) -> None:
    old = sorted((result(1, request_id="old") for _ in range(4)), key=lambda item: item.id, reverse=True)
    mixed = sorted(request(2, 20) + request(2, 20, group_id="other"), key=lambda item: item.id, reverse=True)
    assert paged(store, [*old, *mixed], limit=1) == [*([item] for item in old), mixed]
