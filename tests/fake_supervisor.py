"""Fake of the supervisor behind a proxy: a control socket and a traffic socket that listen."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.proxy.access_events import AccessEvent, AccessEvents

PATIENCE: Final = 120.0
"""Seconds after which a test hangs; a busy machine needs a multiple of what an idle one needs."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class ReceivedRequest:
    """A request that the control socket received."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Control:
    """Answers every request with 200 after `delay` seconds, and records it."""

    requests: list[ReceivedRequest] = field(default_factory=list)
    delay: float = 0.0

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append(
            ReceivedRequest(request.method, request.url.path, request.url.query, dict(request.headers), body)
        )
        await asyncio.sleep(self.delay)
        return JSONResponse({"path": request.url.path})

    def copies(self, count: int) -> list[ReceivedRequest]:
        """Wait for a number of copies, and return them."""
        await_true(lambda: len(self.requests) >= count)
        return self.requests


@contextmanager
def controlled(socket: Path) -> Iterator[Control]:
    """Listen on the control socket."""
    control = Control()
    app = Starlette(routes=[Route("/{path:path}", control.__call__, methods=list(METHODS))])
    config = uvicorn.Config(app, uds=str(socket), lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment] # it runs in a thread
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        await_true(lambda: server.started)
        yield control
    finally:
        server.should_exit = True
        thread.join()
        socket.unlink(missing_ok=True)


@contextmanager
def access_events(socket: Path) -> Iterator[list[AccessEvent]]:
    """Listen on the traffic socket."""
    seen: list[AccessEvent] = []
    loop = asyncio.new_event_loop()
    done, bound = asyncio.Event(), threading.Event()

    async def listen() -> None:
        async with AccessEvents(socket, seen.append):
            bound.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(listen()))
    thread.start()
    try:
        assert bound.wait(PATIENCE)
        yield seen
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def await_true(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
