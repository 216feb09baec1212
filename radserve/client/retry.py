"""Repeats requests after transient failures."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import stamina

STATUSES: Final = frozenset({429, 502, 503})
"""Transient statuses: too many requests, no server behind the proxy, no free worker."""
MAX_RETRY_AFTER: Final = 60.0  # longest Retry-After in seconds that is waited for


class _TransientStatusError(Exception):
    """Carries a response with one of `STATUSES`."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def send(request: Callable[[], httpx.Response], retries: int) -> httpx.Response:
    """Send a request, and repeat it after a transient failure; raises httpx.HTTPError if no response arrived.

    Pauses double from 0.25 to 8 seconds, with jitter, unless the server sends Retry-After. Returns the first response
    without a transient status, or the last response.
    """
    try:
        for attempt in _attempts(retries):
            with attempt:
                response = _require_final(request())
    except _TransientStatusError as error:
        return error.response
    return response


async def send_async(request: Callable[[], Awaitable[httpx.Response]], retries: int) -> httpx.Response:
    """Send a request as `send` does, without blocking the event loop."""
    try:
        async for attempt in _attempts(retries):
            with attempt:
                response = _require_final(await request())
    except _TransientStatusError as error:
        return error.response
    return response


def _attempts(retries: int) -> Any:  # stamina does not export the type
    return stamina.retry_context(
        on=_backoff, attempts=retries + 1, timeout=None, wait_initial=0.25, wait_max=8.0, wait_jitter=0.25
    )


def _require_final(response: httpx.Response) -> httpx.Response:
    if response.status_code in STATUSES:
        raise _TransientStatusError(response)
    return response


def _backoff(error: Exception) -> bool | float:
    """Decide whether to repeat a request, and after how many seconds if the server says so."""
    if not isinstance(error, _TransientStatusError):  # after other errors, the request may still occupy the server
        return isinstance(error, httpx.ConnectTimeout | httpx.NetworkError | httpx.RemoteProtocolError)
    seconds = retry_after(error.response.headers.get("Retry-After"))
    return True if not seconds else seconds <= MAX_RETRY_AFTER and seconds


def retry_after(header: str | None) -> float | None:
    """Parse Retry-After (RFC 9110, section 10.2.3), which is seconds or a date; return None if it is neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
