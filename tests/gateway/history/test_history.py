"""Behaviour of every history store."""

import random
import zlib
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.errors import BadRequestError, HistoryError
from gateway.history import History, Query, Result, compression
from tests.gateway.history.conftest import Store
from tests.gateway.history.results import DETAILS, NOW, all_of, pages, result

NAMES = {"explain": "explained", "image": "image_sha256", "group": "group_id"}


def query_store(store: Store, results: list[Result], **query: Any) -> list[Result]:
    """Add results and find some."""

    async def work(history: History) -> list[Result]:
        await history.add(results)
        return await all_of(history, Query(**query))

    return store.run(work)


def test_result_round_trips(store: Store) -> None:
    changes: dict[str, Any] = {"group_id": "g", "group_index": 0, "group_size": 2}
    whole = result(filename="Müller ß\t.png", probability=0.1 + 0.2, positive=True, verb="explanations", **changes)
    least = result(1, probability=None, positive=None, request_id="")

    async def work(history: History) -> None:
        await history.add([whole, least])
        assert await history.get(whole.id) == whole
        assert await history.get(least.id) == least
        assert (await history.find(Query())).results == (whole, least)

    store.run(work)


@pytest.mark.parametrize("damaged", [b"no zlib", zlib.compress(b"no JSON")])
def test_damaged_details_raise_history_error(store: Store, monkeypatch: pytest.MonkeyPatch, damaged: bytes) -> None:
    stored = result()

    async def work(history: History) -> None:
        monkeypatch.setattr(compression, "pack", lambda _: damaged)
        await history.add([stored], {stored.id: DETAILS})
        with pytest.raises(HistoryError, match="damaged"):
            await history.details(stored.id)
        assert await history.get(stored.id) == stored

    store.run(work)


def test_results_survive_reopening(store: Store) -> None:
    kept = result()

    async def add(history: History) -> None:
        await history.add([kept])

    async def get(history: History) -> Result | None:
        return await history.get(kept.id)

    store.run(add)
    assert store.run(get) == kept


def test_duplicate_result_is_ignored(store: Store) -> None:
    kept = result()
    assert query_store(store, [kept, kept]) == [kept]


def test_time_has_milliseconds(store: Store) -> None:
    kept = result(time=NOW.replace(microsecond=123_999))
    (back,) = query_store(store, [kept])
    assert back == kept
    assert back.model_dump(mode="json")["time"] == f"{NOW:%Y-%m-%dT%H:%M:%S}.123Z"


def test_empty_history_returns_empty_page(store: Store) -> None:
    assert query_store(store, []) == []


def test_pages_hold_every_result_once(store: Store) -> None:
    # Several with the same time, like the files of one form.
    results = [result(second) for second in range(20) for _ in range(3)]
    random.Random(1).shuffle(results)

    async def work(history: History) -> None:
        for item in results:
            await history.add([item])
        read = await pages(history, Query(limit=7))
        assert [len(page.results) for page in read] == [7] * 8 + [4]
        expected = sorted(results, key=lambda item: (item.time, item.id), reverse=True)
        assert [item for page in read for item in page.results] == expected

    store.run(work)


def test_full_last_page_has_no_next(store: Store) -> None:
    async def work(history: History) -> None:
        await history.add([result(second) for second in range(10)])
        assert [len(page.results) for page in await pages(history, Query(limit=5))] == [5, 5]

    store.run(work)


def test_concurrent_changes_do_not_shift_pages(store: Store) -> None:
    results = [result(second) for second in range(30)]

    async def work(history: History) -> None:
        await history.add(results)
        first = await history.find(Query(limit=10))
        await history.add([result(-1), result(-2)])
        await history.delete(results[3].id)  # on the current page
        await history.delete(results[9].id)  # the cursor's own result
        await history.delete(results[12].id)  # on the next page
        second = await history.find(Query(limit=10, cursor=first.next))
        assert list(second.results) == [*results[10:12], *results[13:21]]

    store.run(work)


@pytest.mark.parametrize(
    "query",
    [
        {"model": "chest"},
        {"label": "positive"},
        {"client": "ward-7"},
        {"model": "brain", "label": "positive"},
        {"model": "chest", "client": "ward-8"},
        {"model": "brain", "label": "negative", "client": "ward-7"},
        {"model": "none"},
        {"version": "2.0.0"},
        {"version": "2.0.0", "model": "chest"},
        {"positive": True},
        {"positive": False, "client": "ward-7"},
        {"explain": True},
        {"explain": False, "positive": True, "label": "positive"},
        {"image": result(4).image_sha256},
        {"image": result(5).image_sha256, "model": "chest", "client": "ward-7"},
        {"group": "group-3"},
        {"group": "group-4", "client": "ward-7", "positive": True},
        {"since": NOW - timedelta(seconds=20)},
        {"until": NOW - timedelta(seconds=20)},
        {"since": NOW - timedelta(seconds=25), "until": NOW - timedelta(seconds=5), "model": "chest"},
        {"since": NOW, "until": NOW - timedelta(seconds=5)},
    ],
)
def test_filters_select_results(store: Store, query: dict[str, Any]) -> None:
    random_ = random.Random(2)
    results = [
        result(
            second,
            model=random_.choice(["chest", "brain"]),
            label=random_.choice(["positive", "negative"]),
            client=random_.choice(["ward-7", "ward-8"]),
            version=random_.choice(["1.0.0", "2.0.0"]),
            positive=random_.choice([True, False, None]),
            verb=random_.choice(["predictions", "explanations"]),
            explained=random_.choice([True, False]),
            image_sha256=result(second % 10).image_sha256,
            group_id=f"group-{second % 7}" if second % 2 else None,
        )
        for second in range(40)
    ]
    since, until = query.get("since"), query.get("until")
    expected = [
        item
        for item in results
        if all(
            getattr(item, NAMES.get(name, name)) == value
            for name, value in query.items()
            if name not in ("since", "until")
        )
        and (since is None or item.time >= since)
        and (until is None or item.time < until)
    ]
    assert query_store(store, results, limit=3, **query) == expected


@pytest.mark.parametrize(
    "time", [datetime.fromisoformat("0001-01-01T00:00:00+14:00"), datetime.fromisoformat("9999-12-31T23:59:59-14:00")]
)
def test_extreme_times_are_valid(store: Store, time: datetime) -> None:
    kept = result()
    assert query_store(store, [kept], since=time) == ([kept] if time.year == 1 else [])
    assert query_store(store, [], until=time) == ([kept] if time.year == 9999 else [])


@pytest.mark.parametrize("text", ["FILM", "müLLER", "100%", "a_b", "'; --", "ward"])
def test_text_filter_is_literal_and_case_insensitive(store: Store, text: str) -> None:
    names = ["film 1.png", "Müller.dcm", "100% sure.png", "1000.png", "a_b.png", "axb.png", "'; -- x.png", None]
    results = [result(second, filename=name) for second, name in enumerate(names)]
    expected = [item for item in results if text.casefold() in (item.filename or "").casefold()]
    assert query_store(store, results, text=text) == expected
    assert bool(expected) is (text != "ward")


def test_text_filter_searches_ids_and_checksums(store: Store) -> None:
    results = [result(second) for second in range(5)]
    assert query_store(store, results, text=results[2].id[-12:].upper()) == [results[2]]
    assert query_store(store, [], text=results[3].image_sha256[5:40]) == [results[3]]


@pytest.mark.parametrize("cursor", ["", "x", "25", "A" * 32, "ä" * 32, "-" * 31, "=" * 32, "\x00" * 32])
def test_invalid_cursor_is_rejected(store: Store, cursor: str) -> None:
    async def work(history: History) -> None:
        with pytest.raises(BadRequestError, match="cursor"):
            await history.find(Query(cursor=cursor))

    store.run(work)


def test_deleted_result_is_gone(store: Store) -> None:
    gone, other = result(1, group_id="g"), result(2, group_id="g")

    async def work(history: History) -> None:
        await history.add([gone, other], {gone.id: DETAILS, other.id: DETAILS})
        assert await history.delete(gone.id)
        assert not await history.delete(gone.id)
        assert await history.get(gone.id) is None
        assert [await history.details(item.id) for item in (gone, other)] == [None, DETAILS]
        for query in (
            Query(),
            Query(model="chest"),
            Query(label="normal"),
            Query(client="ward-7"),
            Query(image=other.image_sha256),
            Query(group="g"),
            Query(text=other.id),
        ):
            assert await all_of(history, query) == [other]

    store.run(work)


def test_old_results_expire(store: Store) -> None:
    results = [result(second, client=f"ward-{second % 3}") for second in range(2500)]

    async def work(history: History) -> None:
        await history.add(results, {item.id: DETAILS for item in results[98:102]})
        assert await history.expire(results[99].time) == 2400
        assert await history.expire(results[99].time) == 0
        for client in (None, "ward-0", "ward-1", "ward-2"):
            expected = [item for item in results[:100] if client in (None, item.client)]
            assert await all_of(history, Query(client=client, limit=200)) == expected
        assert await history.get(results[100].id) is None
        assert [await history.details(results[at].id) for at in (99, 100)] == [DETAILS, None]

    store.run(work)


def test_ping_reports_usable_store(store: Store) -> None:
    async def work(history: History) -> None:
        await history.ping()

    store.run(work)
