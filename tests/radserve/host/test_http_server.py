"""HTTP servers under clients that hold connections."""

import asyncio
import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp

from radserve.host import http_server
from tests import flood
from tests.gateways import gateway
from tests.server import ROOT, free_ports

HEALTH = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from radserve.server.asgi import listen_on_port, serving

async def main(port):
    async with serving(Starlette(routes=[Route("/live", lambda _: Response())]), listen_on_port("127.0.0.1", port, "")):
        await asyncio.sleep(300)

asyncio.run(main(PORT))
"""
"""A server like the supervisor's health API."""
KINDS = ("gateway", "supervisor")


@contextmanager
def serving_process(kind: str, folder: Path) -> Iterator[int]:
    """Start a server whose process may open fewer files than there are connections, and yield its port."""
    if kind == "gateway":
        with gateway(None, folder, history="none") as started:
            flood.limit_descriptors(started.process.pid)
            yield httpx.URL(started.url).port or 0
        return
    (number,) = free_ports(1)
    code = HEALTH.replace("PORT", str(number))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        flood.limit_descriptors(process.pid)
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{number}/live")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield number
        finally:
            process.terminate()


@pytest.mark.parametrize("kind", KINDS)
def test_half_open_requests_do_not_stop_a_server(kind: str, tmp_path: Path) -> None:
    with serving_process(kind, tmp_path) as port, flood.half_open(port):
        assert flood.slowest(f"http://127.0.0.1:{port}/live") < 5


def test_unfinished_requests_are_closed_after_the_header_time(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(serving_process(kind, tmp_path)) for kind in KINDS]
        start = time.monotonic()
        waiting = [stack.enter_context(flood.half_open(port, 1))[0] for port in ports]
        while time.monotonic() - start < 8:  # a field now and then does not extend the time
            for connection in waiting:
                connection.send(b"X-Slow: 1\r\n")
            time.sleep(0.5)
        select.select(waiting, [], [], 30)
        assert time.monotonic() - start > 9, "a connection was closed early"
        for connection in waiting:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert time.monotonic() - start < 20


@asynccontextmanager
async def serving_app(app: ASGIApp) -> AsyncIterator[tuple[str, int]]:
    """Serve an application in this process, and return its address."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **http_server.OPTIONS))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = server.force_exit = True
            await task


def test_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(http_server, "_INTERVAL", 0.1)

    async def steps() -> int:
        size = 0
        async with serving_app(Response(b"x" * 50_000_000)) as (host, port):
            reader, writer = await asyncio.open_connection(host, port, limit=1000)
            writer.write(flood.REQUEST + b"\r\n")
            await asyncio.sleep(3)
            with contextlib.suppress(ConnectionResetError):
                while chunk := await reader.read(1_000_000):
                    size += len(chunk)
            writer.close()
        return size

    assert asyncio.run(steps()) < 50_000_000


def test_slow_reader_receives_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SEND_SECONDS", 1.0)
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(http_server, "_INTERVAL", 0.1)

    async def steps() -> int:
        async with serving_app(Response(b"x" * 30_000_000)) as (host, port):
            reader, writer = await asyncio.open_connection(host, port, limit=100_000)
            writer.write(flood.REQUEST + b"Connection: close\r\n\r\n")
            size = 0
            while chunk := await reader.read(3_000_000):
                size += len(chunk)
                await asyncio.sleep(0.01)
            writer.close()
            return size

    assert asyncio.run(steps()) > 30_000_000


def test_new_connection_is_closed_if_all_others_have_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    release = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await Response(b"done")(scope, receive, send)

    async def steps() -> list[bytes]:
        async with serving_app(wait) as (host, port):
            busy = [await asyncio.open_connection(host, port) for _ in range(2)]
            for _, writer in busy:
                writer.write(flood.REQUEST + b"Connection: close\r\n\r\n")
            await asyncio.sleep(0.2)
            reader, writer = await asyncio.open_connection(host, port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            release.set()
            responses = [await reader.read() for reader, _ in busy]
            for _, writer in busy:
                writer.close()
            return responses

    assert [response[-4:] for response in asyncio.run(steps())] == [b"done", b"done"]
