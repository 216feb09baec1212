"""Empty history stores."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.server import free_ports
from gateway.history import History
from gateway.history.redis import RedisHistory
from gateway.history.sqlite import SqliteHistory
from tests.authority import Authority
from tests.redis import Redis, redis

T = TypeVar("T")

KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Store:
    """A store that can be opened several times."""

    kind: str
    url: str
    make: Callable[[], History]

    def run(self, work: Callable[[History], Awaitable[T]]) -> T:
        """Run a function with the open store."""

        async def opened() -> T:
            history = self.make()
            await history.ping()
            try:
                return await work(history)
            finally:
                await history.close()

        return asyncio.run(opened())


@pytest.fixture(scope="session")
def tls_port() -> int:
    """Return the TLS port of `started`."""
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory, authority: Authority, tls_port: int) -> Iterator[Redis]:
    """Run one redis-server for all tests of this folder."""
    pair = authority.issue("redis")
    tls = {"port": tls_port, "cert-file": pair.certificate, "key-file": pair.key, "auth-clients": "no"}
    options = [word for name, value in tls.items() for word in (f"--tls-{name}", str(value))]
    with redis(tmp_path_factory.mktemp("redis"), *options) as result:
        yield result


@pytest.fixture
def emptied(started: Redis) -> Redis:
    """Delete the keys of previous tests; FLUSHALL is not permitted."""
    result = "redis.call('SCAN', 0, 'MATCH', 'radserve:history:1:*', 'COUNT', 1000000)[2]"
    assert started.ask("EVAL", f"for _, key in ipairs({result}) do redis.call('DEL', key) end", "0") == ""
    return started


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Store:
    """Return a store whose file does not exist yet."""
    path = tmp_path / "state" / "history.sqlite3"
    return Store("sqlite", f"sqlite:{path}", lambda: SqliteHistory(path))


@pytest.fixture
def redis_store(emptied: Redis, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an empty Redis store with long timeouts, for busy test machines."""
    monkeypatch.setattr("gateway.history.redis._CONNECT_TIMEOUT", 10)
    monkeypatch.setattr("gateway.history.redis._COMMAND_TIMEOUT", 10)
    return Store("redis", emptied.url, lambda: RedisHistory(emptied.url, KEPT_FOR))


@pytest.fixture
def hasty_store(emptied: Redis) -> Store:
    """Return an empty Redis store with the timeouts of the gateway."""
    return Store("redis", emptied.url, lambda: RedisHistory(emptied.url, KEPT_FOR))


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    """Return each kind of store."""
    result = request.getfixturevalue(f"{request.param}_store")
    assert isinstance(result, Store)
    return result
