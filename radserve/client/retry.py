"""When a request may be repeated, and after which pause."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

STATUSES: Final = frozenset({429, 502, 503})
"""Not now: too many, nobody behind the proxy, no worker free."""
LONGEST: Final = 60.0
"""Seconds; a server that asks for more patience than this is given up at once."""
_FIRST: Final = 0.25
_CEILING: Final = 8.0


def safe(error: httpx.HTTPError) -> bool:
    """Say whether the request that failed like this surely occupies the server no longer."""
    return isinstance(error, httpx.ConnectTimeout | httpx.NetworkError | httpx.RemoteProtocolError)


def pause(attempt: int, asked_for: float | None = None) -> float:
    """Return the seconds before the next attempt: doubling, scattered, and no less than was asked for.

    Parameters
    ----------
    attempt
        How many failed before this one.
    asked_for
        Seconds of Retry-After.
    """
    longest = min(_CEILING, _FIRST * 2**attempt)
    scattered = random.uniform(longest / 2, longest)  # noqa: S311  # spreads clients, protects nothing
    return max(scattered, asked_for or 0.0)


def after(header: str | None) -> float | None:
    """Read Retry-After (RFC 9110, section 10.2.3): seconds, or a date; None if it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
