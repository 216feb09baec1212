"""API keys: the project's own, as `radserve keys` makes them."""

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

_PATIENCE: Final = 2.0
"""Seconds that a request waits for a look at the source of the keys."""
_HOW: Final = "Send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."


class Keys:
    """Knows callers by their keys.

    The source is looked at when a request comes and the last look is longer ago than the source's period, not by a
    task: a Lambda function stands still between requests, and the first one after a pause must not find a key that
    was revoked meanwhile.

    Parameters
    ----------
    period
        Seconds between two looks at the source; None where nothing can change.
    """

    def __init__(self, ring: Keyring, period: float | None) -> None:
        self._ring = ring
        self._period = period
        self._looked = time.monotonic()

    @classmethod
    def open(cls, words: str) -> Self:
        """Read the keys of the source that the operator named; see `radserve.auth.keyring.source`.

        Raises
        ------
        KeysError
            If they cannot be read, or there are none.
        """
        return cls(Keyring.open(words), keyring.source(words).period)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller; raises NotAuthenticated."""
        sent = endpoint.credential(headers)
        if not sent:
            raise NotAuthenticatedError(f"This needs an API key. {_HOW}")
        await self._look()
        key = self._ring.find(sent)
        if key is None:
            raise NotAuthenticatedError(f"The API key is unknown, revoked or expired. {_HOW}")
        return Caller(key.name, frozenset(key.roles))

    def named(self, name: str) -> bool:
        """Whether a key has that name."""
        return any(key.name == name for key in self._ring.keys.keys)

    async def _look(self) -> None:
        now = time.monotonic()
        if self._period is None or now - self._looked < self._period:
            return
        self._looked = now  # one request looks; those beside it go on with what is known
        with contextlib.suppress(TimeoutError):  # a slow source delays a change, but no request; its thread goes on
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(asyncio.to_thread(self._ring.refresh))
