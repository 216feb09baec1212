"""Sends requests to one server, with retries; errors of httpx become ClientErrors."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from radserve.client import response, retry
from radserve.client.response import INFERENCE, Advice
from radserve.errors import ClientError, InvalidCallError

TIMEOUT: Final = httpx.Timeout(connect=5.0, read=60.0, write=60.0, pool=60.0)  # default timeouts in seconds

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Transport:
    """Connections to one server; `where` names it in errors."""

    def __init__(self, http: httpx.Client, where: str, retries: int, advice: Advice = INFERENCE) -> None:
        self.where = where
        self._http = http
        self._retries = retries
        self._advice = advice

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, url: str | httpx.URL, *, repeat: bool = True, **options: Any) -> httpx.Response:
        """Send a request to a path or URL, repeated after transient failures; raises ClientError without a response."""
        try:
            return retry.send(lambda: self._http.request(method, url, **options), self._retries if repeat else 0)
        except httpx.HTTPError as error:
            raise _failure(error, url, self.where, self._advice) from error

    @contextmanager
    def stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Send a request as `request` does; the content of a response with status 200 is read as it arrives."""

        def begin() -> httpx.Response:
            reply = self._http.send(self._http.build_request(method, path, **options), stream=True)
            if reply.status_code != httpx.codes.OK:
                reply.read()
            return reply

        try:
            with closing(retry.send(begin, self._retries)) as reply:
                yield reply
        except httpx.HTTPError as error:
            raise _failure(error, path, self.where, self._advice) from error


class AsyncTransport:
    """`Transport` for an event loop."""

    def __init__(self, http: httpx.AsyncClient, where: str, retries: int) -> None:
        self.where = where
        self._http = http
        self._retries = retries

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def request(
        self, method: str, url: str | httpx.URL, *, repeat: bool = True, **options: Any
    ) -> httpx.Response:
        """Send a request as `Transport.request` does."""
        retries = self._retries if repeat else 0
        try:
            return await retry.send_async(lambda: self._http.request(method, url, **options), retries)
        except httpx.HTTPError as error:
            raise _failure(error, url, self.where, INFERENCE) from error

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Send a request as `Transport.stream` does."""

        async def begin() -> httpx.Response:
            reply = await self._http.send(self._http.build_request(method, path, **options), stream=True)
            if reply.status_code != httpx.codes.OK:
                await reply.aread()
            return reply

        try:
            async with aclosing(await retry.send_async(begin, self._retries)) as reply:
                yield reply
        except httpx.HTTPError as error:
            raise _failure(error, path, self.where, INFERENCE) from error


def _failure(error: httpx.HTTPError, url: str | httpx.URL, where: str, advice: Advice) -> ClientError:
    return response.failure(error, str(url) if isinstance(url, httpx.URL) else where, advice)


def http_client(url: str, timeout: float | httpx.Timeout, key: str | None, cacert: Path | None) -> httpx.Client:
    """Open a client that trusts `cacert` (PEM) or the system's certificates; raises InvalidCallError."""
    return httpx.Client(**http_settings(url, timeout, key, cacert))


def http_settings(url: str, timeout: float | httpx.Timeout, key: str | None, cacert: Path | None) -> dict[str, Any]:
    """Return the arguments of httpx.Client and httpx.AsyncClient; raises InvalidCallError."""
    base = parse_url(url)
    if not isinstance(timeout, httpx.Timeout):
        if not timeout > 0:
            raise InvalidCallError(f"timeout has value {timeout}; it must be above 0 seconds.")
        timeout = httpx.Timeout(connect=TIMEOUT.connect, read=timeout, write=TIMEOUT.write, pool=TIMEOUT.pool)
    return {
        "base_url": base,
        "timeout": timeout,
        "headers": {"Accept": "application/json"} | _authorization(key),
        "verify": _trust(cacert) if cacert else True,
        "trust_env": trusts_environment(base),
    }


def require_retries(retries: int) -> int:
    """Return the number of repetitions; raises InvalidCallError if it is negative."""
    if retries < 0:
        raise InvalidCallError(f"retries has value {retries}; it must be 0 or more.")
    return retries


def trusts_environment(url: httpx.URL) -> bool:
    """Return whether to use a proxy from the environment: images for this machine must not pass through one."""
    return url.host not in _LOOPBACK


def parse_url(url: str) -> httpx.URL:
    """Parse the URL of a server; raises InvalidCallError if it is not an http or https URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidCallError(f"url has value {url!r}: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidCallError(f"url has value {url!r}; it must begin with http:// or https:// and name a host.")
    return parsed


def _authorization(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not key.isascii() or not key.isprintable() or not key.strip():
        raise InvalidCallError("key is empty or has characters that an HTTP header must not contain.")
    return {"Authorization": f"Bearer {key}"}


def _trust(cacert: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(cacert))
    except OSError as error:  # includes ssl.SSLError
        raise InvalidCallError(f"--cacert {cacert}: cannot read certificates ({error}).") from error
