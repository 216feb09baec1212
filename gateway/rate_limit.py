"""How many requests one caller may send, and how many wrong keys one address."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from collections import OrderedDict
from typing import Any, Final

import limits
from limits.aio import storage, strategies
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from gateway.errors import SettingsError, TooManyRequestsError
from gateway.metrics import RATE
from gateway.settings import Settings

logger = logging.getLogger(__name__)

_PATIENCE: Final = 0.5
"""Seconds that a request waits for the storage."""
_PAUSE: Final = 5.0
"""Seconds for which a storage that failed is not asked again."""
_ENTRIES: Final = 4096
_MINUTE: Final = 60.0


class Rate:
    """Counts requests by caller, in this process or in Redis together with other gateways.

    A storage that is down lets requests through, which the log and the metrics say: answers matter more than limits.

    Raises
    ------
    SettingsError
        If the rate or its storage is none.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self._limit = limits.parse(settings.rate)
        except ValueError as error:
            raise SettingsError(
                f"RADSERVE_GATEWAY_RATE has value {settings.rate!r}; write requests and a time: 200/second."
            ) from error
        self._pool = _pool(settings.rate_storage)
        self._limiter = strategies.SlidingWindowCounterRateLimiter(_storage(settings.rate_storage, self._pool))
        self._down_until = 0.0
        self._down = False

    async def count(self, caller: str) -> None:
        """Count a request; raises TooManyRequests if it is one too many."""
        if time.monotonic() < self._down_until:
            RATE.labels(outcome="uncounted").inc()
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                if await self._limiter.hit(self._limit, caller):
                    self._said(None)
                    return
                window = await self._limiter.get_window_stats(self._limit, caller)
        except (StorageError, RedisError, OSError, TimeoutError) as error:
            self._said(error)
            return
        RATE.labels(outcome="refused").inc()
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise TooManyRequestsError(
            f"{caller} has sent more than {self._limit}; try again in {seconds} s.", {"Retry-After": str(seconds)}
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.aclose()

    def _said(self, error: Exception | None) -> None:
        if error is not None:
            RATE.labels(outcome="uncounted").inc()
            self._down_until = time.monotonic() + _PAUSE
            if not self._down:
                logger.error("requests are not counted, so none is one too many: %s", type(error).__name__)
        elif self._down:
            logger.warning("requests are counted again")
        self._down = error is not None


class AuthFailureLimiter:
    """Counts wrong keys and tokens by the address they come from, of the last thousands of addresses only.

    It never stands in the way of a right key: many clients may share an address, behind a load balancer say.

    Parameters
    ----------
    most
        Within a minute.
    """

    def __init__(self, most: int = 60) -> None:
        self._most = most
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> None:
        """Count one; raises TooManyRequests if it is one too many within a minute."""
        network, now = _network(address), time.monotonic()
        begin, count = self._seen.pop(network, (now, 0))
        if now - begin >= _MINUTE:
            begin, count = now, 0
        self._seen[network] = (begin, count + 1)
        if len(self._seen) > _ENTRIES:
            self._seen.popitem(last=False)
        if count >= self._most:
            RATE.labels(outcome="refused").inc()
            seconds = max(1, math.ceil(begin + _MINUTE - now))
            raise TooManyRequestsError(
                f"Too many requests without a valid key came from this address; try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )


def _network(address: str) -> str:
    """Return what one client has of addresses: one of version 4, 2 ** 64 of version 6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def _pool(url: str) -> ConnectionPool | None:
    """Return connections to Redis; None for memory."""
    kind = url.partition(":")[0]
    if kind == "memory":
        return None
    if kind not in ("redis", "rediss"):
        raise SettingsError("RADSERVE_GATEWAY_RATE_STORAGE names no storage; write memory:// or redis://HOST.")
    try:
        return ConnectionPool.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
    except ValueError as error:
        raise SettingsError("RADSERVE_GATEWAY_RATE_STORAGE is no Redis URL; write redis://HOST:PORT.") from error


def _storage(url: str, pool: ConnectionPool | None) -> storage.MemoryStorage | storage.RedisStorage:
    if pool is None:
        return storage.MemoryStorage()
    options: dict[str, Any] = {"connection_pool": pool}  # its types do not have what its documentation names
    return storage.RedisStorage(
        f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="radserve:rate", **options
    )
