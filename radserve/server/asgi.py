"""Serves an ASGI application in the supervisor's own event loop, on a port or a unix socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from radserve.errors import ServeError
from radserve.host import http_server
from radserve.host.background import observed


@contextmanager
def listen_on_port(host: str, port: int, option: str) -> Iterator[socket.socket]:
    """Listen on a port that a command-line option chose."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise ServeError(f"Cannot listen on {host}:{port} ({option}).") from error
    with listener:
        yield listener


@asynccontextmanager
async def serving(app: Starlette, listening: AbstractContextManager[socket.socket]) -> AsyncIterator[None]:
    """Serve an application on a socket."""
    config = uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=2, **http_server.OPTIONS)
    with listening as listener:
        server = _Server(config)
        task = observed(asyncio.create_task(server.serve([listener])), "HTTP server of the supervisor")
        try:
            yield
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """Leaves signals to the supervisor."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture no signals."""
        return contextlib.nullcontext()
