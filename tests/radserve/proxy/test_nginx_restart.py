"""Restarts of a killed nginx."""

import asyncio
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from radserve.proxy import nginx as nginx_module
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from tests.authority import Authority
from tests.radserve.proxy.running import SlowEcho, kill, master, status, use
from tests.server import free_ports


def test_a_killed_nginx_loses_no_request(options: ProxyOptions, upstreams: Upstreams) -> None:
    """Neither those in work nor new ones, whether clients keep their connections or not."""

    async def steps(nginx: Nginx) -> None:
        upstreams.run_directory.ready.touch()
        responses: list[str] = []
        finished = asyncio.Event()

        async def predict(client: httpx.AsyncClient) -> None:
            response = await client.post("/predictions/chest", content="film", timeout=30)
            assert response.status_code == 200
            responses.append(response.text)

        async def keep_connection() -> None:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client:
                while not finished.is_set():
                    await predict(client)

        async def connect_each_time() -> None:
            while not finished.is_set():
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client:
                    await predict(client)

        running = asyncio.create_task(nginx.keep_running())
        async with await asyncio.start_unix_server(SlowEcho(0.3), upstreams.run_directory.inference):
            clients = [asyncio.create_task(steps()) for steps in (keep_connection, connect_each_time) for _ in range(4)]
            for _ in range(3):
                await asyncio.sleep(0.5)
                await kill(nginx)
            await asyncio.sleep(1.5)  # earlier workers quit
            finished.set()
            await asyncio.gather(*clients)
        assert len(responses) > 24
        assert set(responses) == {"film"}
        assert await nginx.drain(5.0)
        assert await running == 0

    use(replace(options, keyless=True), upstreams, steps)


def test_workers_of_a_killed_nginx_finish_their_requests_and_exit(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        upstreams.run_directory.ready.touch()
        running = asyncio.create_task(nginx.keep_running())
        workers = master(nginx).children()
        torchserve = SlowEcho()
        async with (
            await asyncio.start_unix_server(torchserve, upstreams.run_directory.inference),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client,
        ):
            request = asyncio.create_task(client.post("/predictions/chest", content="film"))
            await torchserve.received(1)
            await kill(nginx)
            async with asyncio.timeout(10):
                while sum(worker.is_running() for worker in workers) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            torchserve.released.set()
            assert (await request).text == "film"
            _, remaining = await asyncio.to_thread(psutil.wait_procs, workers, 5)
            assert remaining == []
            assert (await client.post("/predictions/chest", content="next")).headers["Connection"] == "keep-alive"
        assert await nginx.drain(5.0)
        assert await running == 0

    use(replace(options, keyless=True), upstreams, steps)


def test_a_restart_keeps_the_limits_although_old_bodies_fill_the_disk(
    options: ProxyOptions, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(nginx: Nginx) -> None:
        configured = nginx._configuration.read_text()
        usage = shutil.disk_usage(nginx.folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        running = asyncio.create_task(nginx.keep_running())
        await kill(nginx)
        assert nginx._configuration.read_text() == configured
        assert await nginx.drain(5.0)
        assert await running == 0

    use(options, upstreams, steps)


@pytest.mark.parametrize("end", ["drain", "stop"])
def test_a_restart_that_hangs_does_not_delay_the_end(
    end: str, options: ProxyOptions, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(nginx: Nginx) -> None:
        checking, checked = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            checking.set()
            await checked.wait()

        monkeypatch.setattr(nginx_module, "_STOP_TIMEOUT", 0.2)
        monkeypatch.setattr(nginx, "_check", hang)
        running = asyncio.create_task(nginx.keep_running())
        master(nginx).kill()
        await checking.wait()
        async with asyncio.timeout(10):
            if end == "drain":
                assert await nginx.drain(5.0)
            await nginx.stop()
        checked.set()
        assert await running == 128 + signal.SIGKILL
        assert len(nginx._runs) == 1  # none was started after the stop

    use(options, upstreams, steps)


def test_a_stop_ends_the_workers_of_a_killed_nginx(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        killed = master(nginx)
        workers = killed.children()
        killed.kill()
        assert await nginx.wait() == 128 + signal.SIGKILL
        assert all(worker.is_running() for worker in workers)
        await nginx.stop()
        assert psutil.wait_procs(workers, timeout=5)[1] == []

    use(options, upstreams, steps)


def test_every_listening_socket_survives_a_kill(
    options: ProxyOptions, upstreams: Upstreams, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("nginx")
    everywhere = replace(
        options,
        host="::",
        management_host="::1",
        plain_http=False,
        certificate=pair.certificate,
        scrape_port=free_ports(1)[0],
    )
    everywhere = replace(everywhere, certificate_key=pair.key)

    async def steps(nginx: Nginx) -> None:
        running = asyncio.create_task(nginx.keep_running())
        for _ in range(2):
            for url in (
                f"https://127.0.0.1:{everywhere.port}",
                f"https://[::1]:{everywhere.port}",
                f"https://[::1]:{everywhere.management_port}",
                f"https://127.0.0.1:{everywhere.metrics_port}",
                f"http://127.0.0.1:{everywhere.scrape_port}",
            ):
                assert await status(url) in (404, 502)
            await kill(nginx)
            await asyncio.sleep(1.5)  # earlier workers quit
        with pytest.raises(httpx.ConnectError):
            await status(f"https://127.0.0.1:{everywhere.management_port}")
        assert await nginx.drain(5.0)
        assert await running == 0
        assert "inherited" not in "".join(item.getMessage() for item in caplog.records if item.levelname != "DEBUG")

    use(everywhere, upstreams, steps)


KILLED_PROXY = """
import sys, time
from pathlib import Path
from radserve.proxy import key_cache
with key_cache.created(Path(sys.argv[1])) as cache:
    print(cache.folder, flush=True)
    time.sleep(60)
"""


def test_cached_keys_of_a_killed_run_are_removed_by_the_next_one(
    options: ProxyOptions, upstreams: Upstreams, tmp_path: Path
) -> None:
    """Also in another run directory; those of a running nginx remain."""
    with subprocess.Popen([sys.executable, "-c", KILLED_PROXY, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        leftover = Path(other.stdout.readline().strip())

        async def leave(_: Nginx) -> None:
            assert leftover in leftover.parent.iterdir()

        use(options, upstreams, leave)
        other.kill()
    assert leftover.exists()

    async def remove(nginx: Nginx) -> None:
        folders = list(leftover.parent.iterdir())
        assert leftover not in folders
        assert nginx._cache in folders

    use(options, upstreams, remove)
