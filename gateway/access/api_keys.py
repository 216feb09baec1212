"""Authentication by API keys, which `radserve keys` creates."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Final, Self

from gateway.access import Caller
from gateway.errors import NotAuthenticatedError
from radserve.auth import endpoint, keyring
from radserve.auth.keyring import Keyring

_REFRESH_TIMEOUT: Final = 2.0
"""Seconds that a request waits for the keys to be re-read."""
_USAGE: Final = "Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."


class ApiKeyAuthenticator:
    """Identifies callers by their API key.

    Keys are re-read when a request arrives and they are older than `period`, not by a background task: a Lambda
    function is frozen between requests, and the first request after a pause must not accept a revoked key.

    Parameters
    ----------
    period
        Seconds after which keys are re-read; None if they cannot change.
    """

    def __init__(self, ring: Keyring, period: float | None) -> None:
        self._keyring = ring
        self._period = period
        self._refreshed = time.monotonic()

    @classmethod
    def open(cls, location: str) -> Self:
        """Read the keys; see `radserve.auth.keyring.source` for the location.

        Raises
        ------
        KeysError
            If the keys cannot be read, or the source holds no key.
        """
        return cls(Keyring.open(location), keyring.source(location).period)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticatedError."""
        credential = endpoint.credential(headers)
        if not credential:
            raise NotAuthenticatedError(f"API key required. {_USAGE}")
        await self._refresh()
        key = self._keyring.find(credential)
        if key is None:
            raise NotAuthenticatedError(f"The API key is unknown, revoked or expired. {_USAGE}")
        return Caller(key.name, frozenset(key.roles))

    def has_name(self, name: str) -> bool:
        """Return whether a key has a name."""
        return any(key.name == name for key in self._keyring.keys.keys)

    async def _refresh(self) -> None:
        now = time.monotonic()
        if self._period is None or now - self._refreshed < self._period:
            return
        self._refreshed = now  # one request refreshes; concurrent ones use the keys that are known
        with contextlib.suppress(TimeoutError):  # a slow source delays a key change, but no request
            async with asyncio.timeout(_REFRESH_TIMEOUT):
                await asyncio.shield(asyncio.to_thread(self._keyring.refresh))
