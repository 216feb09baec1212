"""Keeping results never costs an answer, nor more than a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.history import recorder as module
from gateway.history.images import Images
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import Sqlite
from gateway.metrics import REGISTRY
from gateway.settings import Settings
from gateway.uploads.request_body import Body
from tests.gateway.history.failing import Failing
from tests.gateway.history.results import result
from tests.gateway.history.test_images import ONE, of

KEPT = "radserve_gateway_results_total"


def run(history: Failing | None, work: Callable[[HistoryRecorder], Awaitable[None]]) -> None:
    async def opened() -> None:
        keeping = HistoryRecorder(history, Settings.read())
        await keeping.open()
        try:
            await work(keeping)
        finally:
            await keeping.close()

    asyncio.run(opened())


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_without_a_history_everything_is_off() -> None:
    async def work(keeping: HistoryRecorder) -> None:
        assert await keeping.keep([result()]) == "off"
        assert await keeping.state() == "off"

    run(None, work)


def test_what_was_kept_and_lost_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    history = Failing()
    before = {outcome: value(KEPT, outcome=outcome) for outcome in ("kept", "lost")}

    async def work(keeping: HistoryRecorder) -> None:
        assert await keeping.keep([result(), result()]) == "kept"
        assert value("radserve_gateway_history_up", store="sqlite") == 1
        history.state = "down"
        assert [await keeping.keep([result()]) for _ in range(3)] == ["unavailable"] * 3
        assert value("radserve_gateway_history_up", store="sqlite") == 0
        assert await keeping.state() == "unavailable"
        history.state = "up"
        assert await keeping.state() == "ok"
        assert value("radserve_gateway_history_up", store="sqlite") == 1
        assert await keeping.keep([result()]) == "kept"

    with caplog.at_level(logging.INFO, logger=module.__name__):
        run(history, work)
    assert {outcome: value(KEPT, outcome=outcome) - count for outcome, count in before.items()} == {
        "kept": 3,
        "lost": 3,
    }
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "results are not kept: /var/lib/secret cannot be used."),
        ("WARNING", "results are kept again"),
    ]


def test_a_history_that_cannot_be_opened_is_tried_again_with_each_answer() -> None:
    history = Failing("down")

    async def work(keeping: HistoryRecorder) -> None:
        assert await keeping.keep([result()]) == "unavailable"
        history.state = "up"
        assert await keeping.keep([result()]) == "kept"

    run(history, work)


def test_one_that_does_not_answer_is_waited_for_by_one_answer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    history = Failing()

    async def work(keeping: HistoryRecorder) -> None:
        history.state = "silent"
        assert await keeping.keep([result()]) == "unavailable"
        assert await keeping.state() == "unavailable"
        history.attempts = 0
        begin = time.monotonic()
        said = await asyncio.gather(*(keeping.keep([result()]) for _ in range(50)))
        assert set(said) == {"unavailable"}
        assert time.monotonic() - begin < 2
        assert history.attempts == 1
        history.state = "up"
        assert await keeping.keep([result()]) == "kept"

    run(history, work)


def test_opening_one_that_does_not_answer_does_not_keep_the_gateway_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)

    async def work(keeping: HistoryRecorder) -> None:
        assert await keeping.keep([result()]) == "unavailable"

    begin = time.monotonic()
    run(Failing("silent"), work)
    assert time.monotonic() - begin < 5


def test_old_results_are_looked_for_at_the_start_and_then_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PERIOD", 0.02)
    history = Failing("down")

    async def work(_: HistoryRecorder) -> None:
        await asyncio.sleep(0.05)
        history.state = "up"
        await asyncio.wait_for(history.thrice.wait(), 10)

    run(history, work)
    assert abs(datetime.now(UTC) - timedelta(days=90) - history.expired[0]) < timedelta(minutes=1)


def test_images_are_kept_with_what_is_kept_and_forgotten_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        keeping = HistoryRecorder(Sqlite(tmp_path / "history.sqlite3"), Settings.read(), Images(tmp_path / "images"))
        await keeping.open()
        assert keeping.images is not None
        assert keeping.history is not None
        kept = of(ONE)
        assert await keeping.keep([kept], Body(ONE)) == "kept"
        assert await keeping.images.read(kept.id) == ONE
        await keeping.forget(kept.id)
        assert await keeping.images.read(kept.id) is None
        assert await keeping.history.get(kept.id) is None
        await keeping.close()

    asyncio.run(work())


def test_an_image_that_cannot_be_kept_is_counted_and_its_result_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = value("radserve_gateway_images_total", outcome="lost")

    async def work() -> None:
        keeping = HistoryRecorder(Failing(), Settings.read(), Images(tmp_path / "file"))
        assert await keeping.keep([of(ONE)], Body(ONE)) == "kept"

    asyncio.run(work())
    assert value("radserve_gateway_images_total", outcome="lost") == before + 1
