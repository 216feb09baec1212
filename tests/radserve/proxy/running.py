"""Runs an nginx in tests, before a TorchServe that echoes."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import Capacity

CAPACITY = Capacity(heap=1 << 30, requests=20, large=4)


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


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request with its body."""
    with contextlib.closing(writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()


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
