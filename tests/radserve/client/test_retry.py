from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from radserve.client import retry


def responses(*statuses: int, **headers: str) -> Callable[[], httpx.Response]:
    """Return a request that gets these statuses in turn; the first response has the headers."""
    pending = iter([httpx.Response(statuses[0], headers=headers), *map(httpx.Response, statuses[1:])])
    return lambda: next(pending)


def test_pauses_double_up_to_eight_seconds(pauses: list[float]) -> None:
    assert retry.send(responses(*[503] * 8), 7).status_code == 503
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 8]


def test_pauses_have_jitter(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stamina._core.random.uniform", lambda low, high: (low + high) / 2)
    retry.send(responses(503, 200), 1)
    assert pauses == [0.25 + 0.125]


@pytest.mark.parametrize(("seconds", "pause"), [("7", 7), ("60", 60), ("0", 0.25), ("soon", 0.25)])
def test_retry_after_replaces_the_pause(pauses: list[float], seconds: str, pause: float) -> None:
    assert retry.send(responses(429, 200, **{"Retry-After": seconds}), 3).status_code == 200
    assert pauses == [pause]


def test_a_retry_after_above_a_minute_ends_the_repetition(pauses: list[float]) -> None:
    assert retry.send(responses(503, 200, **{"Retry-After": "61"}), 3).status_code == 503
    assert not pauses


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("0", 0), (" 12 ", 12), ("soon", None), ("-1", None), ("1.5", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry.retry_after(header) == seconds


@pytest.mark.parametrize(("ahead", "low", "high"), [(40, 35, 40), (-40, 0, 0)])
def test_retry_after_as_a_date(ahead: int, low: float, high: float) -> None:
    seconds = retry.retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True))
    assert seconds is not None
    assert low <= seconds <= high


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
def test_only_failures_that_leave_no_work_behind_are_repeated(
    pauses: list[float], error: type[httpx.TransportError], *, safe: bool
) -> None:
    attempts = 0

    def request() -> httpx.Response:
        nonlocal attempts
        attempts += 1
        raise error("")

    with pytest.raises(error):
        retry.send(request, 2)
    assert attempts == (3 if safe else 1)
