"""Tests of radserve.server.monitor."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from radserve.proxy.access_events import AccessEvent
from radserve.server.components import Components
from radserve.server.monitor import monitor
from radserve.server.status import State
from radserve.torchserve.readiness import Problem
from tests.radserve.server.conftest import TestServer, with_workers

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


@pytest.mark.parametrize(
    ("workers", "ready", "state", "answers"), [(2, 1, State.DEGRADED, True), (2, 0, State.UNAVAILABLE, False)]
)
def test_missing_workers_make_a_server_unavailable_only_if_none_is_left(
    server: TestServer, caplog: pytest.LogCaptureFixture, workers: int, ready: int, state: State, *, answers: bool
) -> None:
    with_workers(server, workers)

    async def steps(components: Components) -> None:
        status = components.status
        status.update(State.READY, "")
        server.torchserve.behavior.ready = ready
        await until(lambda: status.state is state)
        assert status.state.answers is answers
        assert status.detail == f"brightness 1.0.0: {ready} of {workers} workers are ready."
        assert status.versions == {("brightness", "1.0.0")}
        server.torchserve.behavior.ready = None
        await until(lambda: status.state is State.READY)
        assert status.detail == "Every worker is ready."

    server.run(lambda components: monitored(components, steps))
    assert caplog.messages == [
        f"{state.value}: brightness 1.0.0: {ready} of {workers} workers are ready.",
        "ready: Every worker is ready.",
    ]


def test_an_unavailable_server_must_answer_its_sample_again(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        status, behavior = components.status, server.torchserve.behavior
        status.update(State.READY, "")
        behavior.ready, behavior.prediction_status = 0, 500
        await until(lambda: status.state is State.UNAVAILABLE)
        behavior.ready = None
        await until(lambda: "sample failed with status 500" in status.detail)
        await asyncio.sleep(5 * PERIOD)
        assert status.state is State.UNAVAILABLE
        behavior.prediction_status = None
        await until(lambda: status.state is State.READY)

    server.run(lambda components: monitored(components, steps))


def test_a_silent_management_api_degrades_a_server_that_answers(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        status = components.status
        await components.registry.refresh()
        status.update(State.READY, "")
        components.management._client.timeout = httpx.Timeout(0.1)
        server.torchserve.behavior.delay = 1.0
        await until(lambda: status.state is State.DEGRADED)
        assert status.detail == "The management API does not respond (ReadTimeout)."
        assert [version.ready for version in components.registry] == [1]
        server.torchserve.behavior.prediction_status = 503
        await until(lambda: status.state is State.UNAVAILABLE)
        assert status.detail == "brightness 1.0.0: the request with its sample failed with status 503."
        assert [version.ready for version in components.registry] == [0]

    server.run(lambda components: monitored(components, steps))


def test_a_problem_that_one_check_sees_does_not_change_the_state(server: TestServer) -> None:
    class Flaky:
        """Reports a problem at every second check."""

        checks = 0

        async def problem(self, *, infer: bool) -> Problem | None:
            assert not infer
            self.checks += 1
            return Problem("busy", fatal=True) if self.checks % 2 else None

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


def test_a_dead_torchserve_makes_the_server_unavailable(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        components.status.update(State.READY, "")
        server.torchserve.die()
        await until(lambda: components.status.state is State.UNAVAILABLE)
        assert components.status.detail == "The engine does not respond (ConnectError)."
        assert not components.status.versions
        assert [version.ready for version in components.registry] == [0]

    server.run(lambda components: monitored(components, steps))


def observe_responses(components: Components, *statuses: int) -> None:
    """Report responses to clients, one every two seconds until now."""
    window = components.rollouts.traffic
    now = time.monotonic()
    for age, status in zip(range(2 * len(statuses) - 2, -1, -2), statuses, strict=True):
        window.add(AccessEvent("brightness", "1.0.0", False, status, 0.01), now - age)


def test_a_ready_worker_that_answers_only_errors_makes_the_server_unavailable(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        status, behavior = components.status, server.torchserve.behavior
        status.update(State.READY, "")
        behavior.prediction_status = 500
        await asyncio.sleep(5 * PERIOD)
        assert server.torchserve.predictions.total() == 0  # samples are sent only on suspicion
        observe_responses(components, 200, 500, 500, 415, 500, 499, 500, 500)
        await until(lambda: status.state is State.UNAVAILABLE)
        assert status.detail == "brightness 1.0.0: the request with its sample failed with status 500."
        behavior.prediction_status = None
        await until(lambda: status.state is State.DEGRADED)
        observe_responses(components, 200)
        await until(lambda: status.state is State.READY)

    server.run(lambda components: monitored(components, steps))


def test_a_model_that_answers_only_its_sample_degrades_the_server(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        status = components.status
        status.update(State.READY, "")
        observe_responses(components, *[500] * 6)
        await until(lambda: status.state is State.DEGRADED)
        assert status.detail == (
            "brightness 1.0.0: it answers its sample, but its last 6 responses to clients failed with 5xx."
        )

    server.run(lambda components: monitored(components, steps))


@pytest.mark.parametrize(
    "statuses", [[500, 500, 500, 500, 200], [500] * 4, [400] * 20, [500, 500, 500, 200, 500, 500, 500], [499] * 20]
)
def test_single_errors_and_errors_of_clients_are_no_alarm(server: TestServer, statuses: list[int]) -> None:
    async def steps(components: Components) -> None:
        status = components.status
        status.update(State.READY, "")
        observe_responses(components, *statuses)
        await asyncio.sleep(5 * PERIOD)
        assert status.state is State.READY
        assert server.torchserve.predictions.total() == 0

    server.run(lambda components: monitored(components, steps))
