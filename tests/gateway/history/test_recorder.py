"""Recording neither fails nor delays predictions."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.history import recorder as module
from gateway.history.images import ImageStore
from gateway.history.recorder import HistoryRecorder
from gateway.history.sqlite import SqliteHistory
from gateway.metrics import REGISTRY
from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody
from tests.gateway.history.failing import Failing
from tests.gateway.history.results import result
from tests.gateway.history.test_images import ONE, of

KEPT = "radserve_gateway_results_total"


def run(history: Failing | None, work: Callable[[HistoryRecorder], Awaitable[None]]) -> None:
    async def opened() -> None:
        recorder = HistoryRecorder(history, Settings.read())
        await recorder.open()
        try:
            await work(recorder)
        finally:
            await recorder.close()

    asyncio.run(opened())


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_outcomes_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    history = Failing()
    before = {outcome: value(KEPT, outcome=outcome) for outcome in ("kept", "lost")}

    async def work(recorder: HistoryRecorder) -> None:
        assert await recorder.record([result(), result()]) == "kept"
        assert value("radserve_gateway_history_up", store="sqlite") == 1
        history.state = "down"
        assert [await recorder.record([result()]) for _ in range(3)] == ["unavailable"] * 3
        assert value("radserve_gateway_history_up", store="sqlite") == 0
        assert await recorder.state() == "unavailable"
        history.state = "up"
        assert await recorder.state() == "ok"
        assert value("radserve_gateway_history_up", store="sqlite") == 1
        assert await recorder.record([result()]) == "kept"

    with caplog.at_level(logging.INFO, logger=module.__name__):
        run(history, work)
    assert {outcome: value(KEPT, outcome=outcome) - count for outcome, count in before.items()} == {
        "kept": 3,
        "lost": 3,
    }
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "results are not recorded: /var/lib/secret cannot be used."),
        ("WARNING", "results are recorded again"),
    ]


def test_one_request_at_a_time_waits_for_hanging_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    history = Failing()

    async def work(recorder: HistoryRecorder) -> None:
        history.state = "silent"
        assert await recorder.record([result()]) == "unavailable"
        assert await recorder.state() == "unavailable"
        history.attempts = 0
        begin = time.monotonic()
        body = RequestBody(b"")
        explanations = [recorder.record_explanations([result()], body, {}) for _ in range(50)]
        assert await asyncio.gather(*explanations) == [("unavailable", {})] * 50
        outcome = await asyncio.gather(*(recorder.record([result()]) for _ in range(50)))
        assert set(outcome) == {"unavailable"}
        assert time.monotonic() - begin < 2
        assert history.attempts == 2
        history.state = "up"
        assert await recorder.record([result()]) == "kept"

    run(history, work)


def test_hanging_history_does_not_block_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)

    async def work(recorder: HistoryRecorder) -> None:
        assert await recorder.record([result()]) == "unavailable"

    begin = time.monotonic()
    run(Failing("silent"), work)
    assert time.monotonic() - begin < 5


def test_old_results_expire_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXPIRY_INTERVAL", 0.02)
    history = Failing("down")

    async def work(_: HistoryRecorder) -> None:
        await asyncio.sleep(0.05)
        history.state = "up"
        await asyncio.wait_for(history.thrice.wait(), 10)

    run(history, work)
    assert abs(datetime.now(UTC) - timedelta(days=90) - history.expired[0]) < timedelta(minutes=1)


def test_images_follow_their_results(tmp_path: Path) -> None:
    async def work() -> None:
        recorder = HistoryRecorder(
            SqliteHistory(tmp_path / "history.sqlite3"), Settings.read(), ImageStore(tmp_path / "images")
        )
        await recorder.open()
        assert recorder.images is not None
        assert recorder.history is not None
        kept = of(ONE)
        assert await recorder.record([kept], RequestBody(ONE)) == "kept"
        assert await recorder.images.read(kept.id) == ONE
        await recorder.delete(kept.id)
        assert await recorder.images.read(kept.id) is None
        assert await recorder.history.get(kept.id) is None
        await recorder.close()

    asyncio.run(work())


def test_lost_image_is_counted_and_result_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = value("radserve_gateway_images_total", outcome="lost")

    async def work() -> None:
        recorder = HistoryRecorder(Failing(), Settings.read(), ImageStore(tmp_path / "file"))
        assert await recorder.record([of(ONE)], RequestBody(ONE)) == "kept"

    asyncio.run(work())
    assert value("radserve_gateway_images_total", outcome="lost") == before + 1
