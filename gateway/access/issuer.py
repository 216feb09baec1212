"""Signing keys of an OpenID Connect issuer."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt

from gateway import bounded_response
from gateway.access.local import is_loopback
from gateway.bounded_response import IDENTITY
from gateway.errors import ResponseError, SettingsError, UnavailableError

logger = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
_TIMEOUT: Final = 3.0  # nginx waits 5 s for /auth
_MAX_BYTES: Final = 512 * 1024
_MAX_AGE: Final = 3600.0
"""Seconds after which the keys are fetched again, so that withdrawn keys stop working."""
_LOOKUP_INTERVAL: Final = 30.0
"""Seconds between two lookups of unknown keys, so that invented key ids cause no load on the issuer."""
_RETRY_INTERVAL: Final = 5.0
"""Seconds between two attempts while no key is known."""

Document = dict[str, Any]


class TokenIssuer:
    """Provides the signing keys of the issuer that tokens name in `iss`; fetches them with the first token."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not _is_safe(url):
            raise SettingsError(f"RADSERVE_GATEWAY_OIDC_ISSUER has value {url!r}; use the issuer's https:// URL.")
        self.url = url
        self._transport = transport
        self._keys: Mapping[str, Document] = {}
        self._fetched = self._attempted = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, key_id: str | None) -> Document | None:
        """Return a JSON Web Key (without an id, the only one); raises UnavailableError before the first fetch."""
        if self._is_expired or self._find(key_id) is None:
            await self._refresh(key_id)
        if not self._keys:
            raise UnavailableError(
                "The signing keys of the token issuer are unavailable; try again in a few seconds.",
                {"Retry-After": "5"},
            )
        return self._find(key_id)

    @property
    def _is_expired(self) -> bool:
        return time.monotonic() - self._fetched > _MAX_AGE

    def _find(self, key_id: str | None) -> Document | None:
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    async def _refresh(self, key_id: str | None) -> None:
        async with self._lock:
            interval = _LOOKUP_INTERVAL if self._keys else _RETRY_INTERVAL
            if time.monotonic() - self._attempted < interval:
                return
            if not self._is_expired and self._find(key_id) is not None:  # a concurrent request fetched it
                return
            self._attempted = time.monotonic()
            try:
                async with asyncio.timeout(_TIMEOUT):
                    self._keys = await self._fetch()
            except (httpx.HTTPError, TimeoutError, ResponseError, ValueError, KeyError, TypeError) as error:
                reason = str(error) or type(error).__name__
                logger.error("cannot fetch keys of %s, using %d known keys: %s", self.url, len(self._keys), reason)  # noqa: TRY400 - the message is complete
            else:
                self._fetched = self._attempted
                logger.info("fetched %d signing keys of %s", len(self._keys), self.url)

    async def _fetch(self) -> dict[str, Document]:
        options: dict[str, Any] = {"timeout": _TIMEOUT, "trust_env": False, "transport": self._transport}
        async with httpx.AsyncClient(**options) as http:
            configuration = await _get(http, self.url.rstrip("/") + DISCOVERY)
            if configuration.get("issuer") != self.url:
                raise ValueError("its configuration names another issuer")
            keys_url = configuration["jwks_uri"]
            if not _is_safe(keys_url):
                raise ValueError("its jwks_uri is not an https:// URL")
            keys = (await _get(http, keys_url))["keys"]
        return {str(key.get("kid", "")): key for key in keys if _is_signing_key(key)}


async def _get(http: httpx.AsyncClient, url: str) -> Document:
    async with http.stream("GET", url, headers={"Accept": "application/json", **IDENTITY}) as response:
        if response.status_code != 200:
            raise ValueError(f"{url} returned {response.status_code}")
        document = bounded_response.parse_json(await bounded_response.read(response, _MAX_BYTES))
    if not isinstance(document, dict):
        raise TypeError(f"{url} did not return a JSON object")
    return document


def _is_signing_key(key: Document) -> bool:
    """Return whether a key is a public signing key of a supported type."""
    if key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
        return False
    try:
        jwt.PyJWK(key)
    except jwt.PyJWTError:
        return False
    return True


def _is_safe(url: object) -> bool:
    try:
        parts = urlsplit(str(url))
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))
