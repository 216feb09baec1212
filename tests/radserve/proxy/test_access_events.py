"""What the supervisor hears of requests, and what it counts."""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.proxy.access_events import AccessEvents, Seen, Tally, TrafficWindow, parse

LINE = b"<190>Jan  2 03:04:05 radserve: chest 1.1.0 0 200 0.012"
SEEN = Seen("chest", "1.1.0", pinned=False, status=200, seconds=0.012)


def seen(status: int = 200, seconds: float | None = 0.1, version: str = "1.1.0", *, pinned: bool = False) -> Seen:
    return Seen("chest", version, pinned, status, seconds)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (LINE, SEEN),
        (LINE + b"\n", SEEN),
        (
            b"<190>Nov 24 19:44:05 radserve: a-b 1.0 1 499 -",
            Seen("a-b", "1.0", pinned=True, status=499, seconds=None),
        ),
    ],
)
def test_lines_of_nginx_are_read(line: bytes, wanted: Seen) -> None:
    assert parse(line) == wanted


@pytest.mark.parametrize(
    "line",
    [b"", b"x", LINE[:-1], LINE + b" more", LINE.replace(b"200", b"999"), LINE.replace(b"chest", b"../x"), LINE * 2,
     LINE.replace(b"0.012", b"0.012, 0.001"), LINE.replace(b"radserve", b"other"), LINE.replace(b"chest ", b"")],
)  # fmt: skip
def test_nothing_else_is(line: bytes) -> None:
    assert parse(line) is None


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(line: bytes) -> None:
    assert parse(line) is None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - there is nothing to wait for but the condition
            await asyncio.sleep(0.001)


def test_each_datagram_is_handed_on_and_garbage_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, heard = tmp_path / "traffic.sock", list[Seen]()
    path.touch()  # what a killed run left

    async def run() -> AccessEvents:
        async with AccessEvents(path, heard.append) as traffic:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as nginx:
                nginx.connect(str(path))
                for line in (LINE, b"garbage", b"", LINE, b"x" * 5000, LINE):
                    nginx.send(line)
                    await asyncio.sleep(0)
                await until(lambda: len(heard) == 3 and traffic.garbage == 3)
        return traffic

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert heard == [SEEN] * 3
    assert len(caplog.records) == 1
    assert not path.exists()


def test_an_observer_that_fails_makes_the_listener_no_deafer(tmp_path: Path) -> None:
    path, heard = tmp_path / "traffic.sock", list[Seen]()

    def observer(item: Seen) -> None:
        heard.append(item)
        raise ValueError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with AccessEvents(path, observer):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
                nginx.connect(str(path))
                for count in range(1, 4):
                    nginx.send(LINE)
                    await until(lambda count=count: len(heard) == count)  # type: ignore[misc]

    asyncio.run(run())


def test_many_datagrams_at_once_leave_others_their_turn(tmp_path: Path) -> None:
    """As many as come: nginx sends no more than the socket takes, here as fast as it takes them."""
    path, heard, total = tmp_path / "traffic.sock", list[Seen](), 2000

    async def run() -> None:
        async with AccessEvents(path, heard.append):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
                nginx.connect(str(path))
                sending = asyncio.to_thread(lambda: [nginx.send(LINE) for _ in range(total)])
                await asyncio.gather(sending, until(lambda: len(heard) == total))

    asyncio.run(run())


def test_a_window_tells_errors_from_refusals_and_from_clients_that_left() -> None:
    window = TrafficWindow()
    for status in (200, 200, 406, 415, 499, 500, 503, 504):
        window.add(seen(status))
    tally = window.tally("chest", "1.1.0")
    assert (tally.requests, tally.errors, tally.refusals) == (8, 3, 2)
    assert window.tally("chest", "1.0.0").requests == 0
    assert window.tally("chest", "1.0.0").p95 is None


def test_what_named_its_version_does_not_judge_it() -> None:
    judging, all_of_it = TrafficWindow(), TrafficWindow(pinned=True)
    for window in (judging, all_of_it):
        window.add(seen(pinned=True))
        window.add(seen())
    assert judging.tally("chest", "1.1.0").requests == 1
    assert all_of_it.tally("chest", "1.1.0").requests == 2


def test_a_window_is_emptied_for_one_model_or_for_all() -> None:
    window = TrafficWindow()
    window.add(seen())
    window.add(Seen("other", "1.0", pinned=False, status=200, seconds=1))
    window.empty("chest")
    assert (window.tally("chest", "1.1.0").requests, window.tally("other", "1.0").requests) == (0, 1)
    window.empty()
    assert window.tally("other", "1.0").requests == 0


def test_who_names_versions_at_will_fills_no_memory() -> None:
    window = TrafficWindow(pinned=True)
    for number in range(5000):
        window.add(seen(404, version=f"1.{number}", pinned=True))
    assert len(window._tallies) == 1000
    window.add(seen(version="1.7", pinned=True))
    assert window.tally("chest", "1.7").requests == 2


@given(st.lists(st.floats(0.001, 120), min_size=1, max_size=200))
def test_quantiles_are_right_to_one_percent(times: list[float]) -> None:
    tally = Tally()
    for seconds in times:
        tally.add(seen(seconds=seconds))
    ordered = sorted(times)
    for found, q in ((tally.p50, 0.5), (tally.p95, 0.95)):
        exact = ordered[max(0, -(-int(q * 100) * len(ordered) // 100) - 1)]
        assert found == pytest.approx(exact, rel=0.011)


def test_only_answers_have_a_latency() -> None:
    tally = Tally()
    tally.add(seen(503, 0.001))
    tally.add(seen(499, 9))
    tally.add(seen(200, None))
    assert tally.p50 is None
    tally.add(seen(200, 0.0))
    assert tally.p95 == pytest.approx(0.0005, rel=0.02)
