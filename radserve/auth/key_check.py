"""Checks the API keys of requests, for nginx (`radserve.auth.endpoint`) and for the gateway."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Final, Self

from radserve.auth import api_keys, key_file, key_sources
from radserve.auth.api_keys import Key
from radserve.auth.key_sources import Source
from radserve.errors import KeysError

logger = logging.getLogger(__name__)

_REFRESH_TIMEOUT: Final = 2.0  # seconds that a request waits for the keys to be read again


def credential(headers: Mapping[str, str]) -> str:
    """Return the key in `Authorization: Bearer KEY`, else in `X-API-Key: KEY`; names may be in lower case."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


class Keyring:
    """Keys as last read from a source; raises KeysError if the source is unreadable or invalid at the start.

    Later problems are logged, and the last valid keys remain in use: neither a typing error nor an outage of Secrets
    Manager locks clients out.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._content = source.read()
        self._read_at = time.monotonic()
        self._keys = api_keys.parse(self._content, source.name)
        self._problem = ""

    @classmethod
    def open(cls, text: str) -> Self:
        """Open the source that the operator chose (`key_sources.source`); raises KeysError if it holds no key."""
        source = key_sources.source(text)
        keyring = cls(source)
        if not keyring.keys.keys:
            raise KeysError(
                f"{source.name}: contains no key, so every request would be rejected. "
                "Create one with 'radserve keys create NAME --role predict --keys FILE'."
            )
        if not keyring.keys.valid:
            logger.warning("%s: all keys have expired", source.name)
        if source.path is not None and key_file.readable_by_others(source.path):
            logger.warning("%s: other users can read this file; chmod 600 %s", source.name, source.name)
        return keyring

    @property
    def keys(self) -> api_keys.Keys:
        """All keys, including expired ones."""
        return self._keys

    def find(self, text: str) -> Key | None:
        """Return the valid key with this text."""
        return self._keys.find(text)

    def has_name(self, name: str) -> bool:
        """Return whether a key has a name."""
        return any(key.name == name for key in self._keys.keys)

    async def find_current(self, text: str) -> Key | None:
        """Return the valid key with this text, after reading keys that are due again.

        For a process without `watch`: a Lambda function is frozen between requests, and the first request after a
        pause must not be accepted with a revoked key. A slow source delays a change of the keys, but no request.
        """
        now = time.monotonic()
        if self._source.period is not None and now - self._read_at >= self._source.period:
            self._read_at = now  # one request reads; concurrent ones use the keys that are known
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.to_thread(self.refresh)), _REFRESH_TIMEOUT)
        return self.find(text)

    def refresh(self) -> None:
        """Read the source again."""
        try:
            content = self._source.read()
            if content != self._content:
                self._keys, self._content = api_keys.parse(content, self._source.name), content
                logger.info("%s: reloaded, %d valid keys", self._source.name, len(self._keys.valid))
        except KeysError as error:
            if str(error) != self._problem:
                logger.error(  # noqa: TRY400 - the message is complete
                    "keys not reloaded, the last %d remain in use: %s", len(self._keys.keys), error
                )
            self._problem = str(error)
        else:
            if self._problem:
                logger.warning("%s: readable again", self._source.name)
            self._problem = ""

    async def watch(self) -> None:
        """Keep the keys up to date until cancelled."""
        while self._source.period is not None:
            await asyncio.sleep(self._source.period)
            await asyncio.to_thread(self.refresh)
