"""Tests of radserve.host.background."""

import asyncio
from itertools import count

import pytest

from radserve.host import background
from radserve.host.background import FAILURES, BackgroundTasks, observe


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PAUSE", 0.05)
    monkeypatch.setattr(background, "_RECOVERY", 0.2)


def failures(task: str) -> float:
    return float(FAILURES.labels(task=task)._value.get())


def test_a_task_that_fails_is_logged_counted_reported_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = count(1)

    async def fragile() -> None:
        if next(runs) < 3:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    async def main() -> None:
        tasks = BackgroundTasks()
        before = failures("fragile")
        tasks.start("fragile", fragile)
        assert tasks.problems == []
        async with asyncio.timeout(5):
            while failures("fragile") < before + 2:  # noqa: ASYNC110 - polls a metric
                await asyncio.sleep(0.001)
            assert tasks.problems == ["fragile failed (ZeroDivisionError) and starts again; the log says why."]
            while tasks.problems:  # noqa: ASYNC110 - until it has run for a while
                await asyncio.sleep(0.001)
        assert next(runs) == 4
        await tasks.stop()

    asyncio.run(main())
    records = [record for record in caplog.records if "fragile failed" in record.message]
    assert len(records) == 2
    assert all(record.exc_info for record in records)


def test_a_task_that_keeps_failing_stays_reported() -> None:
    async def broken() -> None:
        await asyncio.sleep(0.1)  # runs longer than the pause, and shorter than the recovery
        raise ZeroDivisionError

    async def main() -> None:
        tasks = BackgroundTasks()
        tasks.start("broken", broken)
        await asyncio.sleep(0.15)
        for _ in range(30):
            assert tasks.problems
            await asyncio.sleep(0.02)
        await tasks.stop()

    asyncio.run(main())


def test_a_task_that_ends_or_is_stopped_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def short() -> None:
        pass

    async def main() -> None:
        tasks = BackgroundTasks()
        await tasks.start("short", short)
        endless = tasks.start("endless", lambda: asyncio.sleep(60))
        await tasks.stop()
        assert endless.cancelled()
        assert tasks.problems == []

    asyncio.run(main())
    assert caplog.records == []


def test_the_failure_of_a_single_run_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        before = failures("once")
        task = observe(asyncio.create_task(fail()), "once")
        cancelled = observe(asyncio.create_task(asyncio.sleep(60)), "once")
        cancelled.cancel()
        await asyncio.wait({task, cancelled})
        await asyncio.sleep(0)
        assert failures("once") == before + 1

    asyncio.run(main())
    assert caplog.messages == ["once failed"]
