"""Rate limits: requests per caller, and failed authentications per address."""

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

_TIMEOUT: Final = 0.5
"""Seconds that a request waits for the storage."""
_PAUSE: Final = 5.0
"""Seconds for which a failed storage is not used."""
_MAX_NETWORKS: Final = 4096
_MINUTE: Final = 60.0


class RateLimiter:
    """Limits the requests of each caller, counted in this process or in Redis for several gateways.

    While the storage is unavailable, all requests pass: predictions matter more than limits. Log and metrics report it.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self._limit = limits.parse(settings.rate)
        except ValueError as error:
            raise SettingsError(
                f"RADSERVE_GATEWAY_RATE has value {settings.rate!r}; use COUNT/UNIT: 200/second."
            ) from error
        counts, self._pool = _create_storage(settings.rate_storage)
        self._limiter = strategies.SlidingWindowCounterRateLimiter(counts)
        self._resume_at = 0.0
        self._available = True

    async def count(self, caller: str) -> None:
        """Count a request; raises TooManyRequestsError above the limit."""
        if time.monotonic() < self._resume_at:
            RATE.labels(outcome="uncounted").inc()
            return
        try:
            async with asyncio.timeout(_TIMEOUT):
                if await self._limiter.hit(self._limit, caller):
                    self._record_state(None)
                    return
                window = await self._limiter.get_window_stats(self._limit, caller)
        except (StorageError, RedisError, OSError, TimeoutError) as error:
            self._record_state(error)
            return
        raise _too_many(f"{caller} exceeded the limit of {self._limit}", window.reset_time - time.time())

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.aclose()

    def _record_state(self, error: Exception | None) -> None:
        if error is not None:
            RATE.labels(outcome="uncounted").inc()
            self._resume_at = time.monotonic() + _PAUSE
            if self._available:
                logger.error("rate-limit storage unavailable, limits disabled: %s", type(error).__name__)
        elif not self._available:
            logger.warning("rate-limit storage available, limits enabled")
        self._available = error is None


class AuthFailureLimiter:
    """Limits failed authentications per address and minute; remembers the latest few thousand addresses.

    Valid credentials always pass, because many clients may share an address, for example behind a load balancer.
    """

    def __init__(self, limit: int = 60) -> None:
        self._limit = limit
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Start and count of the current minute, by network."""

    def count(self, address: str) -> None:
        """Count a failure; raises TooManyRequestsError above the limit."""
        network, now = _network(address), time.monotonic()
        start, count = self._windows.pop(network, (now, 0))
        if now - start >= _MINUTE:
            start, count = now, 0
        self._windows[network] = (start, count + 1)
        if len(self._windows) > _MAX_NETWORKS:
            self._windows.popitem(last=False)
        if count >= self._limit:
            raise _too_many("This address sent too many requests without a valid credential", start + _MINUTE - now)


def _too_many(reason: str, seconds: float) -> TooManyRequestsError:
    RATE.labels(outcome="refused").inc()
    retry_after = max(1, math.ceil(seconds))
    return TooManyRequestsError(f"{reason}; try again in {retry_after} s.", {"Retry-After": str(retry_after)})


def _network(address: str) -> str:
    """Return the addresses that one client controls: one of IPv4, a /64 network of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def _create_storage(url: str) -> tuple[storage.MemoryStorage | storage.RedisStorage, ConnectionPool | None]:
    """Return a storage, and its connections if it is Redis."""
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return storage.MemoryStorage(), None
    if scheme not in ("redis", "rediss"):
        raise SettingsError("RADSERVE_GATEWAY_RATE_STORAGE is invalid; use memory:// or redis://HOST.")
    try:
        pool = ConnectionPool.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
    except ValueError as error:
        raise SettingsError("RADSERVE_GATEWAY_RATE_STORAGE is not a Redis URL; use redis://HOST:PORT.") from error
    options: dict[str, Any] = {"connection_pool": pool}  # documented, but missing in the type annotations
    return storage.RedisStorage(
        f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="radserve:rate", **options
    ), pool
