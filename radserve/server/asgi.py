"""Serves an ASGI application in the supervisor's own event loop, on a port or a unix socket."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from radserve.errors import ServeError
from radserve.host import http_server
from radserve.host.background import observe

_LOCAL: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.ASCII | re.IGNORECASE)


@contextmanager
def listen_on_port(host: str, port: int, option: str) -> Iterator[socket.socket]:
    """Listen on a port that a command-line option chose."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise ServeError(f"Cannot listen on {host}:{port} ({option}).") from error
    with listener:
        yield listener


class LocalOnly:
    """Middleware that rejects requests of web pages, which can reach loopback ports through a browser on this machine.

    `Host` must be a loopback address, because any other name may resolve to one (DNS rebinding), and `Origin`, if any,
    the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or respond with 403."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        allowed = _LOCAL.fullmatch(host) and headers.get("origin", f"http://{host}") == f"http://{host}"
        app = self._app if allowed else PlainTextResponse("Host must be a loopback address, and Origin the same.", 403)
        await app(scope, receive, send)


@asynccontextmanager
async def serving(app: Starlette, listening: AbstractContextManager[socket.socket]) -> AsyncIterator[None]:
    """Serve an application on a socket."""
    config = uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=2, **http_server.OPTIONS)
    with listening as listener:
        server = http_server.Server(config)
        task = observe(asyncio.create_task(server.serve([listener])), "HTTP server of the supervisor")
        try:
            yield
        finally:
            server.should_exit = True
            await task
