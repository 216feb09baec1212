"""Redis history: keys, expiry, bounded work, failures."""

import asyncio
import os
import signal
import time
from datetime import timedelta

import pytest

from gateway.errors import HistoryError
from gateway.history import History, Query
from gateway.history.cursor import Position
from gateway.history.redis import RedisHistory
from gateway.settings import Settings
from tests.authority import Authority
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend
from tests.gateway.history.conftest import KEPT_FOR, Store
from tests.gateway.history.results import DETAILS, all_of, result
from tests.redis import Redis

PREFIX = "radserve:history:1:"


def calls(server: Redis) -> dict[str, int]:
    """Return the number of calls of each command."""
    lines = (line.partition(":") for line in server.ask("INFO", "commandstats").splitlines() if ":" in line)
    return {
        name.removeprefix("cmdstat_"): int(outcome.partition("calls=")[2].partition(",")[0])
        for name, _, outcome in lines
    }


def since(server: Redis, before: dict[str, int]) -> dict[str, int]:
    """Return the number of calls of each command since a previous count."""
    now = {name: count - before.get(name, 0) for name, count in calls(server).items()}
    return {name: count for name, count in now.items() if count and name not in ("info", "auth", "hello")}


def test_every_redis_key_expires(started: Redis, redis_store: Store) -> None:
    kept = result(3600)

    async def work(history: History) -> None:
        await history.add([kept], {kept.id: DETAILS})
        await history.expire(result(7200).time)

    redis_store.run(work)
    keys = started.ask("EVAL", f"return redis.call('SCAN', 0, 'MATCH', '{PREFIX}*', 'COUNT', 100000)[2]", "0").split()
    assert len(keys) == 9
    left = {key: int(started.ask("TTL", key)) for key in keys}
    days = KEPT_FOR.total_seconds()
    until = kept.time.timestamp() + days - time.time()
    for name in ("result", "details"):
        assert left.pop(f"{PREFIX}{name}:{kept.id.replace('-', '')}") == pytest.approx(until, abs=30)
    assert 0 < left.pop(f"{PREFIX}ping") <= 60
    assert all(days < seconds <= days + 7200 for seconds in left.values())


def test_expired_result_is_skipped_until_indexes_are_trimmed(started: Redis, redis_store: Store) -> None:
    results = [result(second) for second in range(10)]

    async def work(history: History) -> None:
        await history.add(results)
        for gone in results[2:8]:
            started.ask("DEL", f"{PREFIX}result:{gone.id.replace('-', '')}")
        assert await all_of(history, Query(limit=3)) == [*results[:2], *results[8:]]
        assert await history.get(results[3].id) is None
        assert not await history.delete(results[3].id)

    redis_store.run(work)


def test_results_of_older_releases_are_found_by_their_image(
    started: Redis, redis_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.history.redis._BATCH", 3)
    results = [result(second % 5, client=f"ward-{second}") for second in range(10)]

    async def work(history: History) -> None:
        await history.add(results)
        for _ in range(2):  # a gateway of an older release may add results until it stops
            for item in results:
                started.ask("DEL", f"{PREFIX}image_sha256:{item.image_sha256}")
            await history.expire(result(3600).time)
            assert len(await all_of(history, Query(image=results[3].image_sha256))) == 2

    redis_store.run(work)


def test_index_of_an_image_outlives_none_of_its_results(started: Redis, redis_store: Store) -> None:
    old, new, later = (result(seconds, image_sha256="c" * 64) for seconds in (3600, 600, 0))
    index = f"{PREFIX}image_sha256:{old.image_sha256}"

    async def work(history: History) -> None:
        await history.add([old, new])
        assert started.ask("ZCARD", index) == "2"
        await history.expire(new.time)
        assert started.ask("ZCARD", index) == "1"
        started.ask("DEL", index)
        await history.expire(new.time)  # as for results of older releases
        expected = KEPT_FOR.total_seconds() + 7200 + new.time.timestamp() - time.time()
        assert int(started.ask("TTL", index)) == pytest.approx(expected, abs=30)
        await history.add([later])
        assert int(started.ask("TTL", index)) > expected + 500

    redis_store.run(work)


def test_expiry_removes_empty_indexes(started: Redis, redis_store: Store) -> None:
    async def work(history: History) -> None:
        await history.add([result(second, client=f"ward-{second}") for second in range(5)])
        assert await history.expire(result(-1).time) == 5

    redis_store.run(work)
    assert started.ask("EXISTS", f"{PREFIX}all", f"{PREFIX}indexes", f"{PREFIX}client:ward-1") == "0"


def test_page_uses_bounded_number_of_commands(
    started: Redis, redis_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.history.redis._BATCH", 100)
    monkeypatch.setattr("gateway.history.redis._MAX_EXAMINED", 300)
    results = [result(second, client="ward-8" if second % 100 else "ward-9") for second in range(1000)]

    async def work(history: History) -> None:
        await history.add(results)
        before = calls(started)
        assert (await history.find(Query(limit=25, cursor=Position.of(results[900]).cursor))).results == tuple(
            results[901:926]
        )
        assert since(started, before) == {"zrange": 1, "mget": 1}
        before = calls(started)
        page = await history.find(Query(text="nothing"))
        assert (page.results, page.next) == ((), Position.of(results[299]).cursor)
        assert since(started, before) == {"zrange": 3, "mget": 3}
        before = calls(started)
        page = await history.find(Query(client="ward-9", model="chest", label="normal"))
        assert (page.results, page.next) == (tuple(results[::100]), None)
        assert since(started, before) == {"zcard": 3, "zrange": 1, "mget": 1}
        assert await all_of(history, Query(client="ward-8", text=results[777].id)) == [results[777]]
        before = calls(started)
        await history.expire(results[10].time)
        assert not {"scan", "keys"} & set(since(started, before))

    redis_store.run(work)


@pytest.mark.parametrize("password", ["", ":wrong@"])
def test_wrong_redis_password_raises_without_showing_it(started: Redis, password: str) -> None:
    async def work() -> None:
        history = RedisHistory(f"redis://{password}127.0.0.1:{started.port}/0", KEPT_FOR)
        for attempt in (history.find(Query()), history.add([result()])):
            with pytest.raises(HistoryError, match=f"Redis at 127.0.0.1:{started.port} is unavailable") as error:
                await attempt
            assert "wrong@" not in str(error.value)
        await history.close()

    asyncio.run(work())


def test_redis_certificate_is_verified(
    started: Redis, tls_port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = result()

    async def work() -> None:
        history = RedisHistory(f"rediss://:{started.password}@127.0.0.1:{tls_port}/0", KEPT_FOR)
        if "SSL_CERT_FILE" in os.environ:
            await history.add([kept])
            assert await history.get(kept.id) == kept
        else:
            with pytest.raises(HistoryError, match="certificate verify failed"):
                await history.add([kept])
        await history.close()

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    asyncio.run(work())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    asyncio.run(work())


def test_invalid_stored_result_raises_history_error(started: Redis, redis_store: Store) -> None:
    kept = result()

    async def work(history: History) -> None:
        await history.add([kept])
        started.ask("SET", f"{PREFIX}result:{kept.id.replace('-', '')}", "{}")
        with pytest.raises(HistoryError, match="invalid result"):
            await history.get(kept.id)

    redis_store.run(work)


def test_full_redis_raises_on_write_and_still_reads(started: Redis, redis_store: Store) -> None:
    kept = result()

    async def work(history: History) -> None:
        await history.add([kept])
        try:
            for name in ("big", "bigger"):
                started.ask("SETRANGE", name, "140000000", "x")
            for attempt in (history.add([result(1)]), history.ping()):
                with pytest.raises(HistoryError, match="memory"):
                    await attempt
            assert (await history.find(Query())).results == (kept,)
        finally:
            started.ask("DEL", "big", "bigger")

    redis_store.run(work)


class Load:
    """Clients that send predictions continuously."""

    def __init__(self, store: Store) -> None:
        self._parts = services(FakeBackend(), Settings.read(history=store.url), history=store.make())
        self.responses: list[tuple[int, str, str, float]] = []
        self._stop = False

    async def ask(self, meanwhile: object) -> None:
        """Send predictions while another coroutine runs."""
        async with running_client(self._parts) as client:

            async def one() -> None:
                while not self._stop:
                    begin = time.monotonic()
                    response = await client.post("/api/predictions/chest", content=b"film")
                    document = response.json()
                    took = time.monotonic() - begin
                    self.responses.append((response.status_code, document["history"], document["id"], took))
                    await asyncio.sleep(0.005)

            responses = [asyncio.create_task(one()) for _ in range(4)]
            try:
                await meanwhile(self)  # type: ignore[operator]
            finally:
                self._stop = True
                await asyncio.gather(*responses)

    async def until(self, word: str, count: int = 20) -> None:
        """Wait until the latest predictions have a history state."""
        deadline = time.monotonic() + 20
        while {item[1] for item in self.responses[-count:]} != {word} or len(self.responses) < count:
            assert time.monotonic() < deadline, self.responses[-5:]
            await asyncio.sleep(0.02)


def check(load: Load, store: Store) -> None:
    """Check that every prediction succeeded quickly, and that recorded results exist."""
    assert {status for status, *_ in load.responses} == {200}
    assert {word for _, word, *_ in load.responses} == {"kept", "unavailable"}
    assert max(took for *_, took in load.responses) < 2

    async def ids(history: History) -> set[str]:
        return {item.id for item in await all_of(history, Query(limit=200))}

    assert {identity for _, word, identity, _ in load.responses if word == "kept"} <= store.run(ids)


def test_redis_restart_fails_no_prediction(started: Redis, hasty_store: Store) -> None:
    async def meanwhile(load: Load) -> None:
        await load.until("kept")
        await asyncio.to_thread(started.stop)
        await load.until("unavailable")
        await asyncio.to_thread(started.start)
        await load.until("kept")

    load = Load(hasty_store)
    try:
        asyncio.run(load.ask(meanwhile))
    finally:
        if started.ask("PING") != "PONG":
            started.start()
    check(load, hasty_store)


def test_hanging_redis_fails_no_prediction(started: Redis, hasty_store: Store) -> None:
    async def meanwhile(load: Load) -> None:
        await load.until("kept")
        started.send(signal.SIGSTOP)
        await load.until("unavailable")
        started.send(signal.SIGCONT)
        await load.until("kept")

    load = Load(hasty_store)
    try:
        asyncio.run(load.ask(meanwhile))
    finally:
        started.send(signal.SIGCONT)
    check(load, hasty_store)


def test_unreachable_redis_fails_within_timeout() -> None:
    async def work() -> float:
        history = RedisHistory("redis://192.0.2.1:6379/0", timedelta(days=1))  # RFC 5737: not routed
        begin = time.monotonic()
        with pytest.raises(HistoryError):
            await history.add([result()])
        await history.close()
        return time.monotonic() - begin

    assert asyncio.run(work()) < 1
