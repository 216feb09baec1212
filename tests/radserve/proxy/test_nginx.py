"""Tests of radserve.proxy.nginx and radserve.proxy.standalone, with a real nginx."""

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import nginx as nginx_module
from radserve.proxy import standalone
from radserve.proxy.configuration import STOPPING, Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import Capacity, plan
from tests.authority import Authority
from tests.conftest import ROOT
from tests.radserve.minimal_archive import write_archive
from tests.server import free_ports

CAPACITY = Capacity(heap=1 << 30, requests=20, large=4)


@pytest.fixture
def run_directory(tmp_path: Path) -> RunDirectory:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return RunDirectory(folder)


@pytest.fixture
def upstreams(run_directory: RunDirectory) -> Upstreams:
    """Upstreams that do not exist: nginx answers 502."""
    return Upstreams(1, run_directory, 1000, 60, CAPACITY, drain_timeout=5.0)


@pytest.fixture
def options(tmp_path: Path) -> ProxyOptions:
    port, management_port, metrics_port = free_ports(3)
    log = tmp_path / "access.log"
    return ProxyOptions("127.0.0.1", port, "127.0.0.1", management_port, metrics_port, access_log=log, plain_http=True)


def use(options: ProxyOptions, upstreams: Upstreams, steps: Callable[[Nginx], Awaitable[None]]) -> None:
    """Run a coroutine function with a started nginx."""

    async def main() -> None:
        nginx = Nginx(options, upstreams)
        try:
            await nginx.start()
            await steps(nginx)
        finally:
            await nginx.stop()

    asyncio.run(main())


async def status(url: str, ca: Path | None = None) -> int:
    verify = ssl.create_default_context(cafile=str(ca)) if ca else False
    async with httpx.AsyncClient(verify=verify) as client:
        return (await client.get(f"{url}/ready")).status_code


def test_a_missing_nginx_is_an_error_with_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServeError, match="apt install nginx-light"):
        nginx_module.binary()


def test_nginx_serves_until_it_is_stopped(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        assert await status(options.url) == 502
        assert proxy_running(upstreams.run_directory)
        assert nginx.folder.exists()

    use(options, upstreams, steps)
    assert not proxy_running(upstreams.run_directory)
    assert not upstreams.run_directory.proxy.exists()


def test_a_drain_ends_nginx(options: ProxyOptions, upstreams: Upstreams) -> None:
    async def steps(nginx: Nginx) -> None:
        assert await nginx.drain(5.0)
        assert await nginx.wait() == 0
        with pytest.raises(httpx.ConnectError):
            await status(options.url)

    use(options, upstreams, steps)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with its body."""
    with contextlib.closing(writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()


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


def master(nginx: Nginx) -> psutil.Process:
    return psutil.Process(nginx._runs[-1].master.pid)


async def kill(nginx: Nginx) -> None:
    """Kill nginx's master, and wait until another one has workers."""
    killed = master(nginx)
    killed.kill()
    while nginx._runs[-1].master.pid == killed.pid or not master(nginx).children():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class SlowEcho:
    """TorchServe that responds after `seconds`, or once it is released."""

    def __init__(self, seconds: float | None = None) -> None:
        self.requests = 0
        self.released = asyncio.Event()
        self._seconds = seconds

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.released.wait(), self._seconds)
        await echo(reader, writer)

    async def received(self, count: int) -> None:
        while self.requests < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


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


def test_a_second_proxy_is_rejected_and_leaves_the_files_of_the_first(
    options: ProxyOptions, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_module, "_LOCK_TIMEOUT", 0.1)

    async def steps(first: Nginx) -> None:
        second = Nginx(options, upstreams)
        with pytest.raises(ServeError, match="in use by another proxy"):
            await second.start()
        await second.stop()
        assert (first.folder / "body").is_dir()

    use(options, upstreams, steps)


def test_a_port_in_use_is_an_error(options: ProxyOptions, upstreams: Upstreams, tmp_path: Path) -> None:
    other = RunDirectory(tmp_path / "other")
    other.folder.mkdir(mode=0o700)

    async def steps(_: Nginx) -> None:
        second = Nginx(options, Upstreams(1, other, 1, 1, CAPACITY))
        with pytest.raises(ServeError, match=r"port \d+ is taken .*; choose another --port\."):
            await second.start()
        await second.stop()

    use(options, upstreams, steps)


def test_reload_accepts_only_a_valid_certificate(
    options: ProxyOptions, upstreams: Upstreams, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("nginx")
    options = ProxyOptions(
        "127.0.0.1",
        options.port,
        "127.0.0.1",
        options.management_port,
        options.metrics_port,
        pair.certificate,
        pair.key,
        access_log=options.access_log,
    )

    async def steps(nginx: Nginx) -> None:
        assert await status(options.url, authority.root) == 502
        shown = nginx.folder / "certificate.pem"
        first = shown.read_bytes()
        pair.certificate.write_text("invalid")
        await nginx.reload()
        assert "certificate not reloaded" in caplog.text
        assert shown.read_bytes() == first
        renewed = authority.issue("renewed")
        pair.certificate.write_bytes(renewed.certificate.read_bytes())
        pair.key.write_bytes(renewed.key.read_bytes())
        await nginx.reload()
        assert shown.read_bytes() == renewed.certificate.read_bytes()
        assert await status(options.url, authority.root) == 502

    use(options, upstreams, steps)


def test_an_access_log_that_cannot_be_opened_is_an_error(
    options: ProxyOptions, upstreams: Upstreams, tmp_path: Path
) -> None:
    async def steps(_: Nginx) -> None:
        pytest.fail("nginx started")

    (tmp_path / "access.log").mkdir()
    with pytest.raises(ServeError, match=r"--access-log .*access\.log: cannot be opened \(Is a directory\)"):
        use(options, upstreams, steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_standalone_proxy_stops_at_a_signal(
    options: ProxyOptions, upstreams: Upstreams, number: signal.Signals
) -> None:
    async def main() -> int:
        proxy = asyncio.create_task(standalone.run(options, upstreams))
        async with asyncio.timeout(20):
            while True:
                await asyncio.sleep(0.05)
                try:
                    assert await status(options.url) == 502
                except httpx.TransportError:  # nginx is starting
                    continue
                break
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), number)
        return await proxy

    assert asyncio.run(main()) == 0


def test_the_upstreams_of_a_standalone_proxy_match_the_server(run_directory: RunDirectory, tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_archive(store)
    config = ROOT / "config.properties"

    def described(config: Path, response_timeout: int | None) -> Upstreams:
        return standalone.upstreams(
            8090, run_directory, store, config, response_timeout, 30.0, memory=8 << 30, requests=128
        )

    capacity = plan(8 << 30, 44805461, 128)
    assert described(config, None) == Upstreams(8090, run_directory, 44805461, 60, capacity, 30.0)
    assert described(config, 7).response_timeout == 7
    with pytest.raises(ServeError, match=r"--config .*: No such file"):
        described(tmp_path / "missing", None)


def test_a_response_that_torchserve_repeats_never_answers_another_request(
    options: ProxyOptions, upstreams: Upstreams, run_directory: RunDirectory
) -> None:
    """TorchServe answers a job twice when it ends a worker that has just answered it."""

    async def torchserve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            responses = b""
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                repeated, responses = responses, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                writer.write(repeated + responses)
                await writer.drain()

    async def steps(_: Nginx) -> None:
        run_directory.ready.touch()
        async with (
            await asyncio.start_unix_server(torchserve, run_directory.inference),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{options.port}") as client,
        ):
            for patient in ("first", "second", "third"):
                assert (await client.post("/predictions/chest", content=patient)).text == patient

    use(replace(options, keyless=True), upstreams, steps)
