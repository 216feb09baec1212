"""The keys that an OpenID Connect issuer signs its tokens with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt

from gateway.access.local import is_loopback
from gateway.errors import SettingsError, UnavailableError

logger = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
_SECONDS: Final = 5.0
_MAX_BYTES: Final = 512 * 1024
_FRESH: Final = 3600.0
"""Seconds after which the keys are asked for again: a key that the issuer withdrew must stop."""
_PAUSE: Final = 30.0
"""Seconds between two looks for a key that is not known: whoever invents key ids must not make us ask the issuer."""
_RETRY: Final = 5.0
"""The same, as long as no key is known at all."""

Document = dict[str, Any]


class Issuer:
    """Gives the keys of an issuer, by their id; asks for them when the first token comes.

    Parameters
    ----------
    url
        As tokens name it in `iss`.
    transport
        How HTTP is spoken; for tests.

    Raises
    ------
    SettingsError
        If the URL is neither https nor this machine's.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not _safe(url):
            raise SettingsError(f"RADSERVE_GATEWAY_OIDC_ISSUER has value {url!r}; write the issuer's https:// URL.")
        self._url = url
        self._transport = transport
        self._keys: Mapping[str, Document] = {}
        self._read = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, identity: str | None) -> Document | None:
        """Return the key of an id (JSON Web Key); without an id the only one that there is.

        Raises
        ------
        Unavailable
            If no keys could be had yet.
        """
        if time.monotonic() - self._read > _FRESH or self._find(identity) is None:
            await self._refresh(identity)
        if not self._keys:
            raise UnavailableError(
                "The issuer of tokens does not say with which keys it signs; try again in some seconds.",
                {"Retry-After": "5"},
            )
        return self._find(identity)

    def _find(self, identity: str | None) -> Document | None:
        if identity is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(identity)

    async def _refresh(self, identity: str | None) -> None:
        async with self._lock:
            now = time.monotonic()
            if now - self._tried < (_PAUSE if self._keys else _RETRY) or (
                now - self._read < _FRESH and self._find(identity) is not None
            ):
                return
            self._tried = now
            try:
                async with asyncio.timeout(_SECONDS):
                    self._keys = await self._fetch()
            except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
                said = str(error) or type(error).__name__
                logger.error("the keys of %s stay as they are (%d): %s", self._url, len(self._keys), said)  # noqa: TRY400 - said in full
            else:
                self._read = now
                logger.info("%s signs with %d keys", self._url, len(self._keys))

    async def _fetch(self) -> dict[str, Document]:
        options: dict[str, Any] = {"timeout": _SECONDS, "trust_env": False, "transport": self._transport}
        async with httpx.AsyncClient(**options) as http:
            about = await _get(http, self._url.rstrip("/") + DISCOVERY)
            if about.get("issuer") != self._url:
                raise ValueError("its configuration is another issuer's")
            where = about["jwks_uri"]
            if not _safe(where):
                raise ValueError("its configuration names no https:// URL of keys")
            found = (await _get(http, where))["keys"]
        return {str(key.get("kid", "")): key for key in found if _signs(key)}


async def _get(http: httpx.AsyncClient, url: str) -> Document:
    async with http.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        if answer.status_code != 200:
            raise ValueError(f"{url} answers {answer.status_code}")
        content = b""
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > _MAX_BYTES:
                raise ValueError(f"{url} answers more than {_MAX_BYTES} bytes")
    document = httpx.Response(200, content=content).json()
    if not isinstance(document, dict):
        raise TypeError(f"{url} answers no object")
    return document


def _signs(key: Document) -> bool:
    """Whether it is a public key for signatures, of a known kind; a symmetric one is nobody's to publish."""
    if key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
        return False
    try:
        jwt.PyJWK(key)
    except jwt.PyJWTError:
        return False
    return True


def _safe(url: object) -> bool:
    try:
        parts = urlsplit(str(url))
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
