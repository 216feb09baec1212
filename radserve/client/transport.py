"""Requests and their repetition; what comes back is judged by `radserve.client.response`."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from radserve.client import response, retry
from radserve.errors import InvalidCallError

TIMEOUT: Final = httpx.Timeout(connect=5.0, read=60.0, write=60.0, pool=60.0)
"""Seconds: to connect, between two pieces of an answer, between two of a request, for a free connection."""

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Transport:
    """Connections to one server; see `radserve.client.Client` for the parameters and when a request is repeated."""

    def __init__(
        self,
        url: str,
        timeout: float | httpx.Timeout,
        retries: int,
        key: str | None,
        cacert: Path | None = None,
    ) -> None:
        if retries < 0:
            raise InvalidCallError(f"retries has value {retries}; it must be 0 or more.")
        self.url = url
        self._retries = retries
        self._http = httpx.Client(
            base_url=base(url),
            timeout=_timeout(timeout),
            headers=authorization(key),
            verify=trusted(cacert) if cacert else True,
            # Films for this machine must not travel by way of a proxy that the environment names.
            trust_env=not is_loopback(base(url)),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, url: httpx.URL) -> httpx.Response:
        """Get something once.

        Raises
        ------
        Unreachable, TimedOut, NotAnAnswer
            If nothing came back.
        """
        try:
            return self._http.get(url, headers={"Accept": "application/json"})
        except httpx.HTTPError as error:
            raise response.failure(error, str(url)) from error

    def read(self, path: str, query: Mapping[str, str] | None = None) -> httpx.Response:
        """Get something of the server, until an answer comes that a repetition would not better; see `post`."""
        headers = {"Accept": "application/json"}
        return self._repeated(lambda: self._http.get(path, params=query, headers=headers))

    def delete(self, path: str) -> httpx.Response:
        """Delete something once: after a connection that broke off, nobody knows whether it was done.

        Raises
        ------
        Unreachable, TimedOut, NotAnAnswer
            If nothing came back.
        """
        try:
            return self._http.delete(path, headers={"Accept": "application/json"})
        except httpx.HTTPError as error:
            raise response.failure(error, self.url) from error

    def post(self, path: str, content: bytes, media_type: str, accept: str) -> httpx.Response:
        """Post until an answer comes that a repetition would not better.

        Raises
        ------
        Unreachable, TimedOut, NotAnAnswer
            If nothing came back, also after the retries.
        """
        headers = {"Content-Type": media_type, "Accept": accept}
        return self._repeated(lambda: self._http.post(path, content=content, headers=headers))

    def _repeated(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        attempt = 0
        while True:
            wanted = None
            left = attempt < self._retries
            try:
                answer = send()
            except httpx.HTTPError as error:
                if not (left and retry.safe(error)):
                    raise response.failure(error, self.url) from error
            else:
                wanted = retry.after(answer.headers.get("Retry-After"))
                if not (left and answer.status_code in retry.STATUSES and (wanted or 0) <= retry.LONGEST):
                    return answer
            time.sleep(retry.pause(attempt, wanted))
            attempt += 1


def base(url: str) -> httpx.URL:
    """Read the URL of a server.

    Raises
    ------
    WrongCall
        If it is none.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidCallError(f"url has value {url!r}: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidCallError(f"url has value {url!r}; it must begin with http:// or https:// and name a host.")
    return parsed


def _timeout(timeout: float | httpx.Timeout) -> httpx.Timeout:
    if isinstance(timeout, httpx.Timeout):
        return timeout
    if not timeout > 0:
        raise InvalidCallError(f"timeout has value {timeout}; it must be above 0 seconds.")
    return httpx.Timeout(connect=TIMEOUT.connect, read=timeout, write=TIMEOUT.write, pool=TIMEOUT.pool)


def is_loopback(url: httpx.URL) -> bool:
    """Whether a URL leads to this machine."""
    return url.host in _LOOPBACK


def authorization(key: str | None) -> dict[str, str]:
    """Return the header that carries a key.

    Raises
    ------
    WrongCall
        If no header may hold it.
    """
    if key is None:
        return {}
    if not key.isascii() or not key.isprintable() or not key.strip():
        raise InvalidCallError("key holds nothing, or characters that no header may hold.")
    return {"Authorization": f"Bearer {key}"}


def trusted(cacert: Path) -> ssl.SSLContext:
    """Trust the certificates of a file alone.

    Raises
    ------
    WrongCall
        If there are none.
    """
    try:
        return ssl.create_default_context(cafile=str(cacert))
    except OSError as error:  # ssl.SSLError is one
        raise InvalidCallError(f"--cacert {cacert}: no certificates can be read from it ({error}).") from error
