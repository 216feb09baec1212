"""Tests of radserve.server.shutdown."""

import asyncio
import time
from dataclasses import replace

import pytest

from radserve.server import shutdown
from radserve.server.components import Components
from radserve.server.shutdown import shut_down
from radserve.server.status import Exit, State
from radserve.torchserve.connection import connect
from radserve.torchserve.management import Management
from tests.radserve.server.conftest import TestServer


@pytest.fixture
def server(server: TestServer) -> TestServer:
    """A server that is ready."""
    server.components.status.update(State.READY, "")
    return server


def test_a_server_that_was_never_ready_stops_at_once(server: TestServer) -> None:
    server.components.status.update(State.STARTING, "")
    server.torchserve.die()
    assert server.run(lambda components: shut_down(with_timeouts(components, 5.0, 60.0))) is Exit.STOPPED


def with_timeouts(components: Components, drain_timeout: float, drain_delay: float = 0.0) -> Components:
    components.options = replace(components.options, drain_timeout=drain_timeout, drain_delay=drain_delay)
    return components


async def predict(server: TestServer) -> int:
    async with connect(server.torchserve.inference, timeout=10) as client:
        return (await client.post("/predictions/brightness", content=b"image")).status_code


def test_an_idle_server_stops(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        components.run_directory.ready.touch()
        assert await shut_down(components) is Exit.STOPPED
        assert components.status.state is State.DRAINING
        assert not components.run_directory.ready.exists()
        assert not components.versions.lock.accepts_changes

    server.run(steps)


def test_requests_are_answered_during_the_drain_delay(server: TestServer) -> None:
    async def steps(components: Components) -> None:
        stopping = asyncio.create_task(shut_down(with_timeouts(components, 5.0, drain_delay=0.5)))
        await asyncio.sleep(0.1)
        assert components.status.state is State.DRAINING
        assert await predict(server) == 200
        assert await stopping is Exit.STOPPED

    server.run(steps)


def test_a_request_in_flight_is_finished(server: TestServer) -> None:
    server.torchserve.behavior.prediction_delay = 1.0
    server.torchserve.busy_file = server.components.run_directory.busy

    async def steps(components: Components) -> None:
        request = asyncio.create_task(predict(server))
        await asyncio.sleep(0.2)
        start = time.monotonic()
        assert await shut_down(components) is Exit.STOPPED
        assert time.monotonic() - start > 0.9
        assert await request == 200

    server.run(steps)


def test_queued_requests_are_unfinished_after_the_timeout(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    server.torchserve.behavior.pending = 1

    async def steps(components: Components) -> None:
        assert await shut_down(with_timeouts(components, 0.6)) is Exit.UNFINISHED

    server.run(steps)
    assert "requests still in flight after 0.6 s; stopping anyway" in caplog.text


def test_clients_that_keep_sending_requests_get_503_after_the_grace_period(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "_GRACE", 0.5)
    server.torchserve.closing = server.components.run_directory.closing

    async def steps(components: Components) -> None:
        statuses: list[int] = []

        async def client() -> None:
            async with connect(server.torchserve.inference, timeout=10) as session:
                while not statuses or statuses[-1] == 200:
                    statuses.append((await session.post("/predictions/brightness", content=b"image")).status_code)
                    await asyncio.sleep(0.02)

        sending = asyncio.create_task(client())
        await asyncio.sleep(0.1)
        assert await shut_down(components) is Exit.STOPPED
        await sending
        assert set(statuses) == {200, 503}

    server.run(steps)


def test_a_torchserve_that_died_is_reported(server: TestServer, caplog: pytest.LogCaptureFixture) -> None:
    server.torchserve.die()
    assert server.run(shut_down) is Exit.TORCHSERVE_DIED
    assert "the engine does not respond while draining" in caplog.text


def test_a_torchserve_that_is_silent_for_a_while_is_not_reported_as_dead(server: TestServer) -> None:
    async def steps(components: Components) -> Exit:
        components.management = Management(components.run_directory, timeout=0.1)
        server.torchserve.behavior.delay = 0.5
        stopping = asyncio.create_task(shut_down(with_timeouts(components, 5.0)))
        await asyncio.sleep(0.6)
        server.torchserve.behavior.delay = 0.0
        return await stopping

    assert server.run(steps) is Exit.STOPPED


def test_a_version_that_torchserve_no_longer_holds_does_not_block_the_drain(server: TestServer) -> None:
    server.torchserve.models.clear()
    assert server.run(shut_down) is Exit.STOPPED


class Proxy:
    """Records the drain of the proxy."""

    def __init__(self, *, finishes: bool) -> None:
        self.finishes = finishes
        self.seconds: list[float] = []

    async def drain(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return self.finishes


@pytest.mark.parametrize(("finishes", "code"), [(True, Exit.STOPPED), (False, Exit.UNFINISHED)])
def test_the_proxy_is_drained_first(server: TestServer, *, finishes: bool, code: Exit) -> None:
    proxy = Proxy(finishes=finishes)

    async def steps(components: Components) -> None:
        components.proxy = proxy  # type: ignore[assignment]
        assert await shut_down(components) is code

    server.run(steps)
    assert proxy.seconds == [5.0]
