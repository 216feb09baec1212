"""What every place for results has to do, shown of each."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.errors import BadRequestError
from gateway.history import History, Query, Result
from tests.gateway.history.conftest import Store
from tests.gateway.history.results import NOW, all_of, pages, result


def found(store: Store, results: list[Result], **query: Any) -> list[Result]:
    """Keep results and look for some."""

    async def work(history: History) -> list[Result]:
        await history.add(results)
        return await all_of(history, Query(**query))

    return store.run(work)


def test_a_result_comes_back_as_it_was_kept(store: Store) -> None:
    whole = result(filename="Müller ß\t.png", probability=0.1 + 0.2, positive=True, verb="explanations")
    least = result(1, probability=None, positive=None, request_id="")

    async def work(history: History) -> None:
        await history.add([whole, least])
        assert await history.get(whole.id) == whole
        assert await history.get(least.id) == least
        assert (await history.find(Query())).results == (whole, least)

    store.run(work)


def test_results_are_there_after_it_was_closed(store: Store) -> None:
    kept = result()

    async def add(history: History) -> None:
        await history.add([kept])

    async def get(history: History) -> Result | None:
        return await history.get(kept.id)

    store.run(add)
    assert store.run(get) == kept


def test_the_same_result_again_changes_nothing(store: Store) -> None:
    kept = result()
    assert found(store, [kept, kept]) == [kept]


def test_a_time_is_kept_to_the_millisecond_as_answers_say_it(store: Store) -> None:
    kept = result(time=NOW.replace(microsecond=123_999))
    (back,) = found(store, [kept])
    assert back == kept
    assert back.model_dump(mode="json")["time"] == f"{NOW:%Y-%m-%dT%H:%M:%S}.123Z"


def test_nothing_at_all_is_kept_and_found(store: Store) -> None:
    assert found(store, []) == []


def test_pages_are_newest_first_and_together_everything_once(store: Store) -> None:
    # Many at the same time, as the files of one form are.
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


def test_a_last_page_that_is_full_has_no_next_one(store: Store) -> None:
    async def work(history: History) -> None:
        await history.add([result(second) for second in range(10)])
        assert [len(page.results) for page in await pages(history, Query(limit=5))] == [5, 5]

    store.run(work)


def test_what_is_added_and_deleted_meanwhile_shifts_nothing(store: Store) -> None:
    results = [result(second) for second in range(30)]

    async def work(history: History) -> None:
        await history.add(results)
        first = await history.find(Query(limit=10))
        await history.add([result(-1), result(-2)])
        await history.delete(results[3].id)  # of the page that was read
        await history.delete(results[9].id)  # the one that the cursor was made of
        await history.delete(results[12].id)  # of the page to come
        second = await history.find(Query(limit=10, after=first.next))
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
        {"since": NOW - timedelta(seconds=20)},
        {"until": NOW - timedelta(seconds=20)},
        {"since": NOW - timedelta(seconds=25), "until": NOW - timedelta(seconds=5), "model": "chest"},
        {"since": NOW, "until": NOW - timedelta(seconds=5)},
    ],
)
def test_filters_leave_what_they_say(store: Store, query: dict[str, Any]) -> None:
    random_ = random.Random(2)
    results = [
        result(
            second,
            model=random_.choice(["chest", "brain"]),
            label=random_.choice(["positive", "negative"]),
            client=random_.choice(["ward-7", "ward-8"]),
        )
        for second in range(40)
    ]
    since, until = query.get("since"), query.get("until")
    expected = [
        item
        for item in results
        if all(getattr(item, name) == value for name, value in query.items() if name not in ("since", "until"))
        and (since is None or item.time >= since)
        and (until is None or item.time < until)
    ]
    assert found(store, results, limit=3, **query) == expected


@pytest.mark.parametrize(
    "time", [datetime.fromisoformat("0001-01-01T00:00:00+14:00"), datetime.fromisoformat("9999-12-31T23:59:59-14:00")]
)
def test_times_at_the_end_of_the_calendar_are_times(store: Store, time: datetime) -> None:
    kept = result()
    assert found(store, [kept], since=time) == ([kept] if time.year == 1 else [])
    assert found(store, [], until=time) == ([kept] if time.year == 9999 else [])


@pytest.mark.parametrize("text", ["FILM", "müLLER", "100%", "a_b", "'; --", "ward"])
def test_a_text_is_looked_for_as_it_is_whatever_its_case(store: Store, text: str) -> None:
    names = ["film 1.png", "Müller.dcm", "100% sure.png", "1000.png", "a_b.png", "axb.png", "'; -- x.png", None]
    results = [result(second, filename=name) for second, name in enumerate(names)]
    expected = [item for item in results if text.casefold() in (item.filename or "").casefold()]
    assert found(store, results, text=text) == expected
    assert bool(expected) is (text != "ward")


def test_a_text_is_found_in_ids_and_image_checksums(store: Store) -> None:
    results = [result(second) for second in range(5)]
    assert found(store, results, text=results[2].id[-12:].upper()) == [results[2]]
    assert found(store, [], text=results[3].image_sha256[5:40]) == [results[3]]


@pytest.mark.parametrize("cursor", ["", "x", "25", "A" * 32, "ä" * 32, "-" * 31, "=" * 32, "\x00" * 32])
def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    async def work(history: History) -> None:
        with pytest.raises(BadRequestError, match="cursor"):
            await history.find(Query(after=cursor))

    store.run(work)


def test_what_is_deleted_is_found_nowhere_any_more(store: Store) -> None:
    gone, other = result(1), result(2)

    async def work(history: History) -> None:
        await history.add([gone, other])
        assert await history.delete(gone.id)
        assert not await history.delete(gone.id)
        assert await history.get(gone.id) is None
        for query in (
            Query(),
            Query(model="chest"),
            Query(label="normal"),
            Query(client="ward-7"),
            Query(text=other.id),
        ):
            assert await all_of(history, query) == [other]

    store.run(work)


def test_old_results_expire_and_newer_ones_do_not(store: Store) -> None:
    results = [result(second, client=f"ward-{second % 3}") for second in range(2500)]

    async def work(history: History) -> None:
        await history.add(results)
        assert await history.expire(results[99].time) == 2400
        assert await history.expire(results[99].time) == 0
        for client in (None, "ward-0", "ward-1", "ward-2"):
            expected = [item for item in results[:100] if client in (None, item.client)]
            assert await all_of(history, Query(client=client, limit=200)) == expected
        assert await history.get(results[100].id) is None

    store.run(work)


def test_it_answers_whether_it_can_be_used(store: Store) -> None:
    async def work(history: History) -> None:
        await history.ping()

    store.run(work)
