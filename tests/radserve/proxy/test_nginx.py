"""Tests of radserve.proxy.nginx, with a real nginx."""

import asyncio
import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import nginx as nginx_module
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from tests.radserve.proxy.running import CAPACITY, status, use


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


def test_an_access_log_that_cannot_be_opened_is_an_error(
    options: ProxyOptions, upstreams: Upstreams, tmp_path: Path
) -> None:
    async def steps(_: Nginx) -> None:
        pytest.fail("nginx started")

    (tmp_path / "access.log").mkdir()
    with pytest.raises(ServeError, match=r"--access-log .*access\.log: cannot be opened \(Is a directory\)"):
        use(options, upstreams, steps)


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
