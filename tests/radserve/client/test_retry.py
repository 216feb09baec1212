from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from radserve.client import retry


def test_pauses_double_are_scattered_and_have_a_ceiling() -> None:
    for attempt in range(20):
        longest = min(8.0, 0.25 * 2**attempt)
        found = {retry.pause(attempt) for _ in range(50)}
        assert longest / 2 <= min(found) < max(found) <= longest


def test_a_pause_is_never_shorter_than_what_was_asked_for() -> None:
    assert retry.pause(0, 30.0) == 30.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("0", 0), (" 12 ", 12), ("soon", None), ("-1", None), ("1.5", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry.after(header) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(40, 35, 40), (-40, 0, 0)])
def test_retry_after_as_a_date(ahead: int, low: float, high: float) -> None:
    found = retry.after(format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True))
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize(
    ("error", "safe"),
    [
        (httpx.ConnectError, True),
        (httpx.ConnectTimeout, True),
        (httpx.ReadError, True),
        (httpx.RemoteProtocolError, True),
        (httpx.ReadTimeout, False),
        (httpx.WriteTimeout, False),
        (httpx.PoolTimeout, False),
        (httpx.LocalProtocolError, False),
    ],
)
def test_only_what_leaves_no_work_behind_is_repeated(error: type[httpx.TransportError], *, safe: bool) -> None:
    assert retry.safe(error("")) is safe
