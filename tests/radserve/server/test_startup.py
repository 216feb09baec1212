"""Tests of radserve.server.startup."""

import threading
from dataclasses import replace

import pytest

from radserve.server.components import Components
from radserve.server.startup import wait_until_ready
from radserve.server.status import ServerStatus, State
from tests.radserve.server.conftest import TestServer, with_workers


def test_the_server_is_ready_when_every_model_answers_its_sample(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        assert components.status == ServerStatus()
        assert await wait_until_ready(components)
        assert components.status == ServerStatus(
            State.READY, "Every worker is ready and every model answered its sample."
        )
        assert components.run_directory.ready.exists()
        assert components.versions.lock.accepts_changes

    server.run(steps)
    assert server.torchserve.predictions["brightness", "1.0.0"] == 1


@pytest.mark.parametrize(
    ("behavior", "detail"),
    [
        ({"ready": 0}, "brightness 1.0.0: 0 of 1 workers are ready."),
        ({"status": 500}, "TorchServe does not respond yet (HTTPStatusError)."),
        ({"prediction_status": 500}, "brightness 1.0.0: the request with its sample failed with status 500."),
        (
            {"prediction": {"model": {"sha256": "0"}}},
            "brightness 1.0.0: another archive answered its sample, sha256 0.",
        ),
        (
            {"prediction": {"label": "dark"}},
            "brightness 1.0.0: the prediction for its sample differs: label is dark, expected bright as at build time.",
        ),
    ],
)
def test_a_start_fails_after_the_timeout_with_the_reason(
    server: TestServer, behavior: dict[str, object], detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in behavior.items():
        setattr(server.torchserve.behavior, name, value)

    async def steps(components: Components) -> None:
        components.options = replace(components.options, startup_timeout=0.3)
        assert not await wait_until_ready(components)
        assert (components.status.state, components.status.detail) == (State.STARTING, detail)
        assert not components.run_directory.ready.exists()
        assert not components.versions.lock.accepts_changes

    server.run(steps)
    remedy = "If the machine is slow or busy, set a longer --startup-timeout, or serve fewer models with --models."
    assert caplog.messages == [f"not ready after 0.3 s: {detail} {remedy}"]


def test_a_start_without_all_workers_opens_degraded_after_the_timeout(server: TestServer) -> None:
    with_workers(server, 2)
    server.torchserve.behavior.ready = 1

    async def steps(components: Components) -> None:
        components.options = replace(components.options, startup_timeout=0.3)
        assert await wait_until_ready(components)
        detail = "brightness 1.0.0: 1 of 2 workers are ready."
        assert components.status == ServerStatus(State.DEGRADED, detail)
        assert components.run_directory.ready.exists()

    server.run(steps)


def test_a_dead_torchserve_is_not_ready(server: TestServer) -> None:
    server.torchserve.die()

    async def steps(components: Components) -> None:
        components.options = replace(components.options, startup_timeout=0.3)
        assert not await wait_until_ready(components)
        assert components.status.detail == "TorchServe does not respond yet (ConnectError)."

    server.run(steps)


def test_a_slow_start_succeeds(server: TestServer) -> None:
    server.torchserve.behavior.ready = 0
    timer = threading.Timer(0.5, lambda: setattr(server.torchserve.behavior, "ready", None))
    timer.start()
    assert server.run(wait_until_ready)
    timer.join()


def test_workers_are_scaled_to_the_declared_number(server: TestServer) -> None:
    server.torchserve.models["brightness", "1.0.0"].workers = 3
    assert server.run(wait_until_ready)
    assert server.torchserve.models["brightness", "1.0.0"].workers == 1
