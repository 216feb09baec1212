"""How nginx drains."""

import asyncio
import contextlib
import signal
from dataclasses import replace

import httpx
import psutil
import pytest

from radserve.host.run_directory import RunDirectory
from radserve.proxy import nginx as nginx_module
from radserve.proxy.configuration import STOPPING, Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from tests.radserve.proxy.running import SlowEcho, echo, kill, master, status, use


def test_a_drain_ends_nginx(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        assert await nginx.drain(5.0)
        assert await nginx.wait() == 0
        with pytest.raises(httpx.ConnectError):
            await status(options.url)

    use(options, upstreams, steps)


def test_a_drain_closes_a_kept_connection_with_a_response(
    options: ProxyOptions, upstreams: Upstreams, run_directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(nginx: Nginx) -> None:
        run_directory.ready.touch()
        async with (
            await asyncio.start_unix_server(echo, run_directory.inference),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client,
        ):
            assert (await client.post("/predictions/chest", content="first")).headers["Connection"] == "keep-alive"
            monkeypatch.setattr(nginx_module, "_FAREWELL", 30.0)  # also on a busy machine
            drain = asyncio.create_task(nginx.drain(60.0))
            while not (nginx.folder / STOPPING).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            response = await client.post("/predictions/chest?query", content="second")
            assert (response.status_code, response.text) == (200, "second")
            assert response.headers["Connection"] == "close"
            assert await drain

    use(replace(options, keyless=True), upstreams, steps)


@pytest.mark.parametrize("fault", [psutil.AccessDenied(), FileNotFoundError()])
def test_a_drain_stops_nginx_without_knowing_its_connections(
    options: ProxyOptions, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """nginx may have privileges that this process lacks, for a port below 1024."""

    def fail(_: psutil.Process, kind: str) -> None:
        raise fault

    monkeypatch.setattr(psutil.Process, "net_connections", fail)

    async def steps(nginx: Nginx) -> None:
        assert await nginx.drain(5.0)
        assert await nginx.wait() == 0

    use(options, upstreams, steps)


@pytest.mark.parametrize("path", ["/auth", "/problem", "/gate", "/shadow", "/unserved", "/last-request/live"])
def test_a_drain_opens_no_internal_location(options: ProxyOptions, upstreams: Upstreams, path: str) -> None:
    async def steps(nginx: Nginx) -> None:
        (nginx.folder / STOPPING).touch()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client:
            assert (await client.get(path)).status_code == 404

    use(replace(options, keyless=True), upstreams, steps)


def test_a_drain_finishes_requests_of_a_killed_nginx_and_refuses_connections(
    options: ProxyOptions, upstreams: Upstreams
) -> None:
    async def steps(nginx: Nginx) -> None:
        upstreams.run_directory.ready.touch()
        running = asyncio.create_task(nginx.keep_running())
        torchserve = SlowEcho()
        async with (
            await asyncio.start_unix_server(torchserve, upstreams.run_directory.inference),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client,
        ):
            first = asyncio.create_task(client.post("/predictions/chest", content="first", timeout=30))
            await torchserve.received(1)
            await kill(nginx)
            second = asyncio.create_task(client.post("/predictions/chest", content="second", timeout=30))
            await torchserve.received(2)
            drain = asyncio.create_task(nginx.drain(30.0))
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    while True:
                        _, writer = await asyncio.open_connection("127.0.0.1", options.port)
                        writer.close()
                        await asyncio.sleep(0.01)
            assert not drain.done()
            torchserve.released.set()
            assert [(await request).text for request in (first, second)] == ["first", "second"]
            assert await drain
        assert await running == 0

    use(replace(options, keyless=True), upstreams, steps)


def test_nginx_is_not_restarted_after_a_drain(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        running = asyncio.create_task(nginx.keep_running())
        drain = asyncio.create_task(nginx.drain(5.0))
        await asyncio.sleep(0)
        master(nginx).kill()
        assert await drain
        assert await running == 128 + signal.SIGKILL
        with pytest.raises(httpx.ConnectError):
            await status(options.url)

    use(options, upstreams, steps)
