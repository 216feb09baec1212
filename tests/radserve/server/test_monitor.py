"""Tests of radserve.server.monitor."""

import asyncio
from collections.abc import Callable

import pytest

from radserve.server.components import Components
from radserve.server.monitor import monitor
from radserve.server.status import State
from tests.radserve.server.conftest import TestServer

PERIOD = 0.05


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.005)


async def monitored(components: Components, steps: Callable[[Components], object]) -> None:
    task = asyncio.create_task(monitor(components.status, components.readiness, PERIOD))
    try:
        await steps(components)  # type: ignore[misc]
    finally:
        task.cancel()


def test_missing_workers_degrade_the_server_until_they_return(
    server: TestServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(components: Components) -> None:
        status = components.status
        status.update(State.READY, "")
        server.torchserve.behavior.ready = 0
        await until(lambda: status.state is State.DEGRADED)
        assert status.detail == "brightness 1.0.0: 0 of 1 workers are ready."
        server.torchserve.behavior.ready = None
        await until(lambda: status.state is State.READY)
        assert status.detail == "Every worker is ready."

    server.run(lambda components: monitored(components, steps))
    assert caplog.messages == [
        "degraded: brightness 1.0.0: 0 of 1 workers are ready.",
        "ready: all workers are back",
    ]


def test_a_problem_that_one_check_sees_does_not_degrade_the_server(server: TestServer) -> None:
    class Flaky:
        """Reports a problem at every second check."""

        checks = 0

        async def problem(self, *, infer: bool) -> str | None:
            assert not infer
            self.checks += 1
            return "busy" if self.checks % 2 else None

    async def steps(components: Components) -> None:
        status = components.status
        status.update(State.READY, "")
        flaky = Flaky()
        task = asyncio.create_task(monitor(status, flaky, 0.001))  # type: ignore[arg-type]
        while flaky.checks < 20:
            await asyncio.sleep(0.002)
            assert status.state is State.READY
        task.cancel()

    server.run(steps)


def test_a_dead_torchserve_degrades_the_server(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        components.status.update(State.READY, "")
        server.torchserve.die()
        await until(lambda: components.status.state is State.DEGRADED)
        assert components.status.detail == "TorchServe does not respond (ConnectError)."
        assert [version.ready for version in components.registry] == [0]

    server.run(lambda components: monitored(components, steps))
