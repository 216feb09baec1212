"""Results in Redis: for several gateways, on one machine or on many."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit
from uuid import UUID

import redis.asyncio as client
from pydantic import ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from gateway.errors import HistoryError
from gateway.history import Page, Query, Result
from gateway.history.cursor import Place, bounds, microseconds

_PREFIX: Final = "radserve:history:1:"
"""The number is that of the schema: another one would read none of this one's keys."""
_INDEXES: Final = f"{_PREFIX}indexes"
_ALL: Final = f"{_PREFIX}all"
_BY: Final = ("client", "label", "model")

_CONNECT: Final = 0.3
_COMMAND: Final = 0.4
"""Seconds: both together are less than an answer waits for the history."""
_CONNECTIONS: Final = 32
_AT_ONCE: Final = 250
"""Results that one command concerns at most; Redis does nothing else meanwhile."""
_EXAMINED: Final = 2000
"""Results that are looked at for one page, where no index answers the whole query."""
_MARGIN: Final = timedelta(hours=2)
"""For which an index outlives its last result, so that what keeps results takes it out first."""

_TRIM: Final = """
local old = math.min(redis.call('ZLEXCOUNT', KEYS[1], '-', ARGV[1]), tonumber(ARGV[2]))
if old > 0 then
    if ARGV[3] ~= '' then
        for _, place in ipairs(redis.call('ZRANGE', KEYS[1], 0, old - 1)) do
            local id = {}
            for at = 9, 24 do id[#id + 1] = string.format('%02x', place:byte(at)) end
            redis.call('DEL', ARGV[3] .. table.concat(id))
        end
    end
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, old - 1)
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], KEYS[1]) end
return old
"""
"""Take the oldest out of an index, and where a prefix is given, their documents; an empty index is listed no more."""


class Redis:
    """Results in one Redis (no cluster), each under a key of its own that expires.

    Sorted sets hold the places of all results and of each client's, label's and model's: members of 24 bytes, time and
    id, in the order of their bytes (ZRANGE BYLEX). So a page begins where its cursor says, however many results there
    are. A query with several filters follows the smallest of their sets; what the set does not answer, and a text, is
    compared with at most 2000 results, 250 at a time. The page then has what was found among them, and a cursor for the
    rest. No key is ever looked for by a pattern: which sets there are is in a set.

    Parameters
    ----------
    url
        `redis://` or `rediss://` (TLS), as redis-py reads it.
    kept_for
        After which every key expires, even if no gateway runs any more.
    """

    def __init__(self, url: str, kept_for: timedelta) -> None:
        parts = urlsplit(url)
        self._where = f"{parts.hostname}:{parts.port or 6379}"
        self._kept_for = kept_for
        pool = client.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_COMMAND,
            socket_connect_timeout=_CONNECT,
            socket_timeout=_COMMAND,
            # A connection that Redis has closed (it was restarted) is made anew; what does not answer is asked once.
            retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
        )
        self._redis: Any = client.Redis(connection_pool=pool)  # its commands' types say "perhaps awaitable"

    async def open(self) -> None:
        """Look whether it can be used."""
        await self.ping()

    async def add(self, results: Sequence[Result]) -> None:
        """Keep results in one transaction; the same ones again change nothing."""
        with self._told():
            async with self._redis.pipeline(transaction=True) as pipe:
                for result in results:
                    self._add(pipe, result)
                await pipe.execute()

    async def find(self, query: Query) -> Page:
        """Return a page."""
        low, high = bounds(query)
        with self._told():
            index, exact = await self._index(query)
            step = query.limit + 1 if exact else _AT_ONCE
            found: list[Result] = []
            for _ in range(0, _EXAMINED, step):
                window = (b"(" + high.pack(), b"[" + low.pack())
                members = await self._redis.zrange(index, *window, desc=True, bylex=True, offset=0, num=step)
                found += [item for item in await self._read(members) if _matches(item, query)]
                if len(found) > query.limit:
                    page = tuple(found[: query.limit])
                    return Page(page, Place.of(page[-1]).cursor)
                if len(members) < step:
                    return Page(tuple(found), None)
                high = Place.unpack(members[-1])
            return Page(tuple(found), high.cursor)

    async def get(self, identity: str) -> Result | None:
        """Return one result."""
        with self._told():
            document = await self._redis.get(_key(identity))
        return None if document is None else self._result(document)

    async def delete(self, identity: str) -> bool:
        """Forget one result in one transaction; what it is listed under never changes, so it may be read before."""
        result = await self.get(identity)
        if result is None:
            return False
        with self._told():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(_key(identity))
                for index in _indexes(result):
                    pipe.zrem(index, Place.of(result).pack())
                gone, *_ = await pipe.execute()
        return bool(gone)

    async def expire(self, before: datetime) -> int:
        """Forget old results, some at a time: first the results, then where else they are listed."""
        with self._told():
            gone = await self._trim(_ALL, before, _key(""))
            async for index in self._redis.sscan_iter(_INDEXES, count=_AT_ONCE):
                await self._trim(index, before)
        return gone

    async def ping(self) -> None:
        """Write something: a full Redis, and one that only follows another, can still be read."""
        with self._told():
            await self._redis.set(f"{_PREFIX}ping", int(time.time()), ex=60)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def _add(self, pipe: Any, result: Result) -> None:
        place = Place.of(result)
        indexes = _indexes(result)
        pipe.set(_key(result.id), result.model_dump_json(exclude_none=True), pxat=result.time + self._kept_for)
        for index in indexes:
            pipe.zadd(index, {place.pack(): 0})
            pipe.pexpire(index, self._kept_for + _MARGIN)
        pipe.sadd(_INDEXES, *indexes)
        pipe.pexpire(_INDEXES, self._kept_for + _MARGIN)

    async def _index(self, query: Query) -> tuple[str, bool]:
        """Return the smallest index for a query, and whether that answers all of it."""
        names = [_index(name, value) for name in _BY if (value := getattr(query, name)) is not None]
        if len(names) < 2:
            return (names or [_ALL])[0], not query.text
        sizes = [await self._redis.zcard(name) for name in names]
        return names[sizes.index(min(sizes))], False

    async def _read(self, members: Sequence[bytes]) -> list[Result]:
        """Return the results at some places; one that expired just now is passed over."""
        if not members:
            return []
        documents = await self._redis.mget([_key(str(Place.unpack(member).id)) for member in members])
        return [self._result(document) for document in documents if document is not None]

    def _result(self, document: bytes) -> Result:
        try:
            return Result.model_validate_json(document)
        except ValidationError as error:
            raise HistoryError(f"Redis at {self._where} holds what is no result under {_PREFIX}.") from error

    async def _trim(self, index: str, before: datetime, documents: str = "") -> int:
        end = b"(" + Place(microseconds(before), UUID(int=0)).pack()
        gone, last = 0, _AT_ONCE
        while last == _AT_ONCE:
            last = await cast("Awaitable[int]", self._redis.eval(_TRIM, 2, index, _INDEXES, end, _AT_ONCE, documents))
            gone += last
        return gone

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise HistoryError(f"Redis at {self._where} cannot be used: {error}.") from error


def _key(identity: str) -> str:
    return f"{_PREFIX}result:{identity.replace('-', '')}"


def _index(name: str, value: str) -> str:
    return f"{_PREFIX}{name}:{value}"


def _indexes(result: Result) -> list[str]:
    return [_ALL, *(_index(name, getattr(result, name)) for name in _BY)]


def _matches(result: Result, query: Query) -> bool:
    wanted = (getattr(query, name) in (None, getattr(result, name)) for name in _BY)
    return all(wanted) and (query.text is None or _has(result, query.text.casefold()))


def _has(result: Result, text: str) -> bool:
    return any(text in part for part in (result.id, result.image_sha256, (result.filename or "").casefold()))
