"""Tests of radserve.proxy.access_events."""

import asyncio
import logging
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.proxy.access_events import CODES, AccessEvent, AccessEvents, Tally, TrafficWindow, parse

LINE = b"<190>Jan  2 03:04:05 radserve: chest 1.1.0 0 200 0.012 -"
EVENT = AccessEvent("chest", "1.1.0", pinned=False, status=200, seconds=0.012)
WITH_OUTCOME = LINE[:-1] + b"label:a%2C%20b:2,label:c:1,domain:normal:3"


def event(
    status: int = 200, seconds: float | None = 0.1, version: str = "1.1.0", *, pinned: bool = False
) -> AccessEvent:
    return AccessEvent("chest", version, pinned, status, seconds)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LINE, EVENT),
        (LINE + b"\n", EVENT),
        (
            b"<190>Nov 24 19:44:05 radserve: a-b 1.0 1 499 - -",
            AccessEvent("a-b", "1.0", pinned=True, status=499, seconds=None),
        ),
        (
            WITH_OUTCOME,
            replace(EVENT, outcomes={"label": {"a, b": 2, "c": 1}, "domain": {"normal": 3}}),
        ),
    ],
)
def test_parse_reads_the_lines_of_nginx(line: bytes, expected: AccessEvent) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    "line",
    [WITH_OUTCOME.replace(b"%2C", b" "), LINE + b"a" * 600, b"", b"x", LINE[:-1], LINE + b" more",
     LINE.replace(b"200", b"999"), LINE.replace(b"chest", b"../x"), LINE * 2,
     LINE.replace(b"0.012", b"0.012, 0.001"), LINE.replace(b"radserve", b"other"), LINE.replace(b"chest ", b"")],
)  # fmt: skip
def test_parse_rejects_any_other_line(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("outcome", [b"label:a:1,", b"person:a:1", b"label:a:0", b"label::1", b"a"])
def test_a_malformed_outcome_does_not_hide_the_request(outcome: bytes) -> None:
    assert parse(LINE[:-1] + outcome) == EVENT


@given(st.binary(max_size=200))
def test_parse_accepts_arbitrary_bytes(line: bytes) -> None:
    assert parse(line) is None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - there is nothing to wait for but the condition
            await asyncio.sleep(0.001)


def test_observer_gets_events_and_malformed_lines_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, events = tmp_path / "traffic.sock", list[AccessEvent]()
    path.touch()  # left by a killed run

    async def run() -> AccessEvents:
        async with AccessEvents(path, events.append) as traffic:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as nginx:
                nginx.connect(str(path))
                for line in (LINE, b"garbage", b"", LINE, b"x" * 5000, LINE):
                    nginx.send(line)
                    await asyncio.sleep(0)
                await until(lambda: len(events) == 3 and traffic.malformed == 3)
        return traffic

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert events == [EVENT] * 3
    assert len(caplog.records) == 1
    assert not path.exists()


def test_a_failing_observer_does_not_stop_the_listener(tmp_path: Path) -> None:
    path, events = tmp_path / "traffic.sock", list[AccessEvent]()

    def observer(event: AccessEvent) -> None:
        events.append(event)
        raise ValueError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with AccessEvents(path, observer):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
                nginx.connect(str(path))
                for count in range(1, 4):
                    nginx.send(LINE)
                    await until(lambda count=count: len(events) == count)  # type: ignore[misc]

    asyncio.run(run())


def test_a_burst_of_datagrams_does_not_block_other_tasks(tmp_path: Path) -> None:
    """The sender is as fast as the socket accepts datagrams."""
    path, events, total = tmp_path / "traffic.sock", list[AccessEvent](), 2000

    async def run() -> None:
        async with AccessEvents(path, events.append):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
                nginx.connect(str(path))
                sending = asyncio.to_thread(lambda: [nginx.send(LINE) for _ in range(total)])
                await asyncio.gather(sending, until(lambda: len(events) == total))

    asyncio.run(run())


def test_a_window_counts_errors_and_rejections_and_ignores_disconnected_clients() -> None:
    window = TrafficWindow()
    for status in (200, 200, 304, 406, 415, 499, 500, 503, 504):
        window.add(event(status))
    tally = window.tally("chest", "1.1.0")
    assert (tally.requests, tally.errors, tally.rejections) == (9, 3, 2)
    assert tally.codes == {"2xx": 2, "3xx": 1, "4xx": 2, "499": 1, "5xx": 3}
    assert set(tally.codes) == set(CODES)
    assert window.tally("chest", "1.0.0").requests == 0
    assert window.tally("chest", "1.0.0").p95 is None


def test_a_window_leaves_out_requests_that_name_their_version() -> None:
    window = TrafficWindow()
    window.add(event(500, pinned=True))
    window.add(event())
    assert window.tally("chest", "1.1.0").requests == 1
    window.clear("chest")
    assert (window.total("chest", "1.1.0").requests, window.total("chest", "1.1.0").errors) == (2, 1)


def test_clear_resets_one_model() -> None:
    window = TrafficWindow()
    window.add(event())
    window.add(AccessEvent("other", "1.0", pinned=False, status=200, seconds=1))
    window.clear("chest")
    assert (window.tally("chest", "1.1.0").requests, window.tally("other", "1.0").requests) == (0, 1)


def test_arbitrary_version_numbers_do_not_exhaust_memory() -> None:
    window = TrafficWindow()
    for number in range(5000):
        window.add(event(404, version=f"1.{number}"))
    window.add(event(version="1.7"))
    assert (window.tally("chest", "1.7").requests, window.tally("chest", "1.8").requests) == (1, 0)
    for number in range(5000):
        window.add(event(415, version=f"1.{number}"))
    assert len(window._tallies) == len(window._totals) == 1000


@given(st.lists(st.floats(0.001, 120), min_size=1, max_size=200))
def test_quantiles_are_accurate_to_one_percent(times: list[float]) -> None:
    tally = Tally()
    for seconds in times:
        tally.add(event(seconds=seconds), 0.0)
    ordered = sorted(times)
    for quantile, q in ((tally.quantile(0.5), 0.5), (tally.p95, 0.95)):
        exact = ordered[max(0, -(-int(q * 100) * len(ordered) // 100) - 1)]
        assert quantile == pytest.approx(exact, rel=0.011)


def test_only_successful_requests_have_a_latency() -> None:
    tally = Tally()
    tally.add(event(503, 0.001), 0.0)
    tally.add(event(499, 9), 0.0)
    tally.add(event(200, None), 0.0)
    assert tally.p95 is None
    tally.add(event(200, 0.0), 0.0)
    assert tally.p95 == pytest.approx(0.0005, rel=0.02)


@pytest.mark.parametrize(
    ("events", "failures"),
    [
        ([(0, 500), (2, 502), (4, 504), (5, 500), (6, 503)], 5),
        ([(0, 500), (2, 500), (4, 500), (6, 500)], 0),  # too few
        ([(0, 500), (0.1, 500), (0.2, 500), (0.3, 500), (0.4, 500), (0.5, 500)], 0),  # a burst, of a full queue perhaps
        ([(0, 500), (2, 500), (4, 200), (6, 500), (8, 500), (10, 500)], 0),
        ([(0, 400), (2, 500), (4, 499), (6, 500), (7, 500), (8, 404), (9, 500), (10, 500)], 5),
        ([(0, 500), (100, 500), (101, 404), (200, 500), (300, 500), (400, 500)], 0),  # not one incident
    ],
)
def test_failures_without_a_success_are_counted(events: list[tuple[float, int]], failures: int) -> None:
    tally = Tally()
    for seconds, status in events:
        tally.add(AccessEvent("m", "1.0.0", False, status, 0.1), seconds)
    last = events[-1][0]
    assert tally.failures_in_a_row(last) == failures
    assert tally.failures_in_a_row(last + 61) == 0  # there were no requests since


def test_requests_that_name_a_version_count_as_failures_and_successes_of_it() -> None:
    window, now = TrafficWindow(), time.monotonic()
    for age in (8, 6, 4, 2, 0):
        window.add(event(500, pinned=True), now - age)
    assert window.failures_in_a_row("chest", "1.1.0") == 5
    window.add(event(200, pinned=True), now)
    assert window.failures_in_a_row("chest", "1.1.0") == 0


def test_a_request_with_many_images_counts_once() -> None:
    tally = Tally()
    tally.add(event(), 0)
    tally.add(replace(event(), outcomes={"label": {"a": 98, "b": 2}, "domain": {"normal": 100}}), 0)
    tally.add(replace(event(422), outcomes={"domain": {"unlike": 1}}), 0)
    assert tally.outcomes == {"label": {"a": 0.98, "b": 0.02}, "domain": {"normal": 1, "unlike": 1}}


def test_only_the_window_of_a_step_has_outcomes() -> None:
    window = TrafficWindow()
    window.add(replace(event(), outcomes={"label": {"a": 1}}))
    window.add(replace(event(pinned=True), outcomes={"label": {"a": 1}}))
    assert window.tally("chest", "1.1.0").outcomes == {"label": {"a": 1}}
    assert window.total("chest", "1.1.0").outcomes == {}
    assert window.total("chest", "1.1.0").requests == 2


def test_invented_labels_do_not_exhaust_memory() -> None:
    tally = Tally()
    for number in range(300):
        tally.add(replace(event(), outcomes={"label": {f"label {number}": 1}}), 0)
    assert len(tally.outcomes["label"]) == 100
    assert sum(tally.outcomes["label"].values()) == 300
    assert tally.outcomes["label"]["(other)"] == 201
