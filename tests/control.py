"""A stand-in for the supervisor's side of a front: its control socket and its traffic socket, which really listen."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.proxy.access_events import AccessEvent, AccessEvents

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Asked:
    """What was asked of the control socket."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Control:
    """Answers everything with 200, after `delay` seconds, and keeps it."""

    asked: list[Asked] = field(default_factory=list)
    delay: float = 0.0

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append(Asked(request.method, request.url.path, request.url.query, dict(request.headers), body))
        await asyncio.sleep(self.delay)
        return JSONResponse({"path": request.url.path})

    def copies(self, count: int) -> list[Asked]:
        """Wait until so many copies have come, and return them."""
        await_true(lambda: len(self.asked) >= count)
        return self.asked


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
def heard(socket: Path) -> Iterator[list[AccessEvent]]:
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
        assert bound.wait(5)
        yield seen
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def await_true(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
