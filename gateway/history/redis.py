"""Result history in Redis, for several gateways on one or many machines."""

import json
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

import redis.asyncio as client
from pydantic import ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as DisconnectedError
from redis.exceptions import RedisError

from gateway.errors import HistoryError
from gateway.history import NO_DETAILS, Details, Page, Query, Result, compression
from gateway.history.cursor import Position, bounds, from_microseconds
from gateway.history.explanations import MAX_AGE, MAX_PREDICTIONS, Stored, assign, is_explanation_of, results_of

_PREFIX: Final = "radserve:history:1:"
"""Includes the version of the schema."""
_INDEXES: Final = f"{_PREFIX}indexes"
_ALL: Final = f"{_PREFIX}all"
_LOW_CARDINALITY: Final = ("client", "label", "model")
"""Fields whose indexes `_INDEXES` lists; images and groups have too many."""
_INDEXED: Final = (*_LOW_CARDINALITY, "image_sha256", "group_id")

_CONNECT_TIMEOUT: Final = 0.3
_COMMAND_TIMEOUT: Final = 0.4
"""Seconds; the sum of both is below the time that a prediction waits for the history."""
_CONNECTIONS: Final = 32
_BATCH: Final = 250
"""Maximum number of results per command, because Redis executes commands one at a time."""
_MAX_EXAMINED: Final = 2000
"""Results that are examined for one page if no index answers the whole query."""
_MARGIN: Final = timedelta(hours=2)
"""Time by which an index outlives its last result, so that expiry removes the result first."""

_TRIM: Final = """
local old = math.min(redis.call('ZLEXCOUNT', KEYS[1], '-', ARGV[1]), tonumber(ARGV[2]))
if old > 0 then
    if ARGV[3] ~= '' then
        for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, old - 1)) do
            local id = {}
            for at = 9, 24 do id[#id + 1] = string.format('%02x', member:byte(at)) end
            redis.call('DEL', ARGV[3] .. table.concat(id), ARGV[4] .. table.concat(id))
        end
    end
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, old - 1)
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], KEYS[1]) end
return old
"""
"""Removes the oldest members of an index, what prefixes name of them, and the listing of an empty index."""


class RedisHistory:
    """Results in one Redis server (not a cluster), each under its own key that expires after `retention`.

    Sorted sets index all results, and those of each client, label, model and image. Their members are 24-byte
    positions (time, id) in byte order (ZRANGE BYLEX), so a page starts at its cursor however many results there are. A
    query with several filters uses the smallest of their sets; the other filters and the text are compared with at most
    2000 results. The page then holds the matches among these, and a cursor for the rest. Keys are never searched by
    pattern: a set lists all indexes.
    """

    def __init__(self, url: str, retention: timedelta) -> None:
        parts = urlsplit(url)
        self._name = f"Redis at {parts.hostname}:{parts.port or 6379}"
        self._retention = retention
        pool = client.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_COMMAND_TIMEOUT,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_COMMAND_TIMEOUT,
            # Reconnects after a restart of Redis; commands that time out are not repeated.
            retry=Retry(NoBackoff(), 1, supported_errors=(DisconnectedError,)),
        )
        self._redis: Any = client.Redis(connection_pool=pool)  # the types of its commands mix sync and async

    async def add(self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS) -> None:
        """Add results in one transaction; results that exist remain unchanged."""
        with self._translate_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                for result in results:
                    self._add(pipe, result, details.get(result.id))
                await pipe.execute()

    async def find(self, query: Query) -> Page:
        """Return a page."""
        low, high = bounds(query)
        with self._translate_errors():
            index, is_exact = await self._choose_index(query)
            batch = query.limit + 1 if is_exact else _BATCH
            results: list[Result] = []
            for _ in range(0, _MAX_EXAMINED, batch):
                window = (b"(" + high.pack(), b"[" + low.pack())
                members = await self._redis.zrange(index, *window, desc=True, bylex=True, offset=0, num=batch)
                results += [result for result in await self._read(members) if _matches(result, query)]
                if len(results) > query.limit:
                    page = tuple(results[: query.limit])
                    return Page(results=page, next=Position.of(page[-1]).cursor)
                if len(members) < batch:
                    return Page(results=tuple(results), next=None)
                high = Position.unpack(members[-1])
            return Page(results=tuple(results), next=high.cursor)

    async def get(self, result_id: str) -> Result | None:
        """Return a result."""
        with self._translate_errors():
            document = await self._redis.get(_key(result_id))
        return None if document is None else self._parse(document)

    async def details(self, result_id: str) -> Details | None:
        """Return the details of a result."""
        with self._translate_errors():
            document, overlay = await self._redis.hmget(_details_key(result_id), "document", "overlay")
        return None if document is None else Details(compression.unpack(document), overlay)

    async def add_explanations(
        self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS
    ) -> Mapping[str, Result]:
        """Add explanations in one transaction, which starts over if a prediction is changed or deleted meanwhile."""

        async def add(pipe: Any) -> dict[str, Result]:
            explanations = [(result, details[result.id].prediction) for result in results if result.id in details]
            assigned = assign(explanations, await self._recent_predictions(pipe, results))
            pipe.multi()
            for explanation_id, (prediction, document) in assigned.items():
                pipe.set(_key(prediction.id), prediction.model_dump_json(exclude_none=True), xx=True, keepttl=True)
                self._put_details(pipe, prediction, Details(document, details[explanation_id].overlay))
            for result in results_of(results, assigned):
                self._add(pipe, result, details.get(result.id))
            return {explanation_id: prediction for explanation_id, (prediction, _) in assigned.items()}

        with self._translate_errors():
            images = {_image_index(result.image_sha256) for result in results}
            transaction = self._redis.transaction(add, *images, value_from_callable=True)
            return cast("dict[str, Result]", await transaction)

    async def delete(self, result_id: str) -> bool:
        """Delete a result in one transaction; its indexes never change, so they may be read before."""
        result = await self.get(result_id)
        if result is None:
            return False
        with self._translate_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(_key(result_id))
                pipe.delete(_details_key(result_id))
                for index in (*_indexes(result), *_unlisted_indexes(result)):
                    pipe.zrem(index, Position.of(result).pack())
                deleted, *_ = await pipe.execute()
        return bool(deleted)

    async def expire(self, before: datetime) -> int:
        """Delete old results in batches: first the results, then their index entries."""
        with self._translate_errors():
            count = await self._trim(_ALL, before, _key(""), _details_key(""))
            async for index in self._redis.sscan_iter(_INDEXES, count=_BATCH):
                await self._trim(index, before)
            await self._update_image_indexes(before)
        return count

    async def ping(self) -> None:
        """Write a key: a full Redis or a read-only replica still responds to reads."""
        with self._translate_errors():
            await self._redis.set(f"{_PREFIX}ping", int(time.time()), ex=60)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def _add(self, pipe: Any, result: Result, details: Details | None) -> None:
        indexes = _indexes(result)
        pipe.set(_key(result.id), result.model_dump_json(exclude_none=True), pxat=result.time + self._retention)
        for index in (*indexes, *_unlisted_indexes(result)):
            pipe.zadd(index, {Position.of(result).pack(): 0})
            pipe.pexpire(index, self._retention + _MARGIN)
        pipe.sadd(_INDEXES, *indexes)
        pipe.pexpire(_INDEXES, self._retention + _MARGIN)
        if details is not None:
            self._put_details(pipe, result, details)

    def _put_details(self, pipe: Any, result: Result, details: Details) -> None:
        """Store the details of a result; an earlier overlay remains if there is no new one."""
        key = _details_key(result.id)
        pipe.hset(key, "document", compression.pack(details.prediction))
        if details.overlay is not None:
            pipe.hset(key, "overlay", details.overlay)
        pipe.pexpireat(key, result.time + self._retention)

    async def _recent_predictions(self, pipe: Any, explanations: Sequence[Result]) -> list[Stored]:
        """Watch and return the predictions that explanations may belong to, newest first for each image."""
        windows = {
            _image_index(item.image_sha256): (b"+", b"[" + Position.before(item.time - MAX_AGE).pack())
            for item in explanations
        }
        limit = {"desc": True, "bylex": True, "offset": 0, "num": MAX_PREDICTIONS}
        keys = [
            _key(str(Position.unpack(member).id))
            for index, window in windows.items()
            for member in await pipe.zrange(index, *window, **limit)
        ]
        if not keys:
            return []
        await pipe.watch(*keys)
        predictions: list[Stored] = []
        for result in [self._parse(document) for document in await pipe.mget(keys) if document is not None]:
            if any(is_explanation_of(explanation, result) for explanation in explanations):
                document = await pipe.hget(_details_key(result.id), "document")
                predictions += [] if document is None else [(result, compression.unpack(document))]
        return predictions

    async def _update_image_indexes(self, before: datetime) -> None:
        """Add results of older releases, which do not index images, and remove those that are older than a time.

        Older gateways may still add results, so this is repeated with each expiry.
        """
        old = b"(" + Position.before(before).pack()
        high = b"+"
        while members := await self._redis.zrange(_ALL, high, b"-", desc=True, bylex=True, offset=0, num=_BATCH):
            documents = await self._redis.mget([_key(str(Position.unpack(member).id)) for member in members])
            async with self._redis.pipeline(transaction=False) as pipe:
                for member, document in zip(members, documents, strict=True):
                    if document is not None:
                        index = _image_index(json.loads(document)["image_sha256"])
                        end = from_microseconds(Position.unpack(member).time) + self._retention + _MARGIN
                        pipe.zadd(index, {member: 0})
                        pipe.pexpireat(index, end, nx=True)
                        pipe.zremrangebylex(index, b"-", old)
                await pipe.execute()
            high = b"(" + members[-1]

    async def _choose_index(self, query: Query) -> tuple[str, bool]:
        """Return the smallest index of a query, and whether it answers the whole query."""
        filters = query.values
        names = [_index(name, str(filters[name])) for name in _INDEXED if name in filters]
        if len(names) < 2:
            return (names or [_ALL])[0], len(names) == len(filters) and not query.text
        sizes = [await self._redis.zcard(name) for name in names]
        return names[sizes.index(min(sizes))], False

    async def _read(self, members: Sequence[bytes]) -> list[Result]:
        """Return the results at positions, except those that expired meanwhile."""
        if not members:
            return []
        documents = await self._redis.mget([_key(str(Position.unpack(member).id)) for member in members])
        return [self._parse(document) for document in documents if document is not None]

    def _parse(self, document: bytes) -> Result:
        try:
            return Result.model_validate_json(document)
        except ValidationError as error:
            raise HistoryError(f"{self._name} holds an invalid result under {_PREFIX}.") from error

    async def _trim(self, index: str, before: datetime, *prefixes: str) -> int:
        end = b"(" + Position.before(before).pack()
        total, count = 0, _BATCH
        while count == _BATCH:
            count = await cast(
                "Awaitable[int]", self._redis.eval(_TRIM, 2, index, _INDEXES, end, _BATCH, *(prefixes or ("", "")))
            )
            total += count
        return total

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise HistoryError(f"{self._name} is unavailable: {error}.") from error


def _key(result_id: str) -> str:
    return f"{_PREFIX}result:{result_id.replace('-', '')}"


def _details_key(result_id: str) -> str:
    return f"{_PREFIX}details:{result_id.replace('-', '')}"


def _index(name: str, value: str) -> str:
    return f"{_PREFIX}{name}:{value}"


def _indexes(result: Result) -> list[str]:
    return [_ALL, *(_index(name, getattr(result, name)) for name in _LOW_CARDINALITY)]


def _unlisted_indexes(result: Result) -> list[str]:
    group = [] if result.group_id is None else [_index("group_id", result.group_id)]
    return [_image_index(result.image_sha256), *group]


def _image_index(image_sha256: str) -> str:
    return _index("image_sha256", image_sha256)


def _matches(result: Result, query: Query) -> bool:
    if any(getattr(result, name) != value for name, value in query.values.items()):
        return False
    searched = (result.id, result.image_sha256, (result.filename or "").casefold())
    return query.text is None or any(query.text.casefold() in text for text in searched)
