"""ASGI server in the supervisor's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette

from radserve.errors import ServeError


class AsgiServer:
    """Async context manager that serves an application on a port or a unix socket.

    Parameters
    ----------
    label
        Address in messages.
    host, port
        TCP address, if `socket` is None.
    socket
        Unix socket, accessible to its owner only.

    Raises
    ------
    ServeError
        On entry, if the address is unavailable.
    """

    def __init__(
        self, app: Starlette, label: str, *, host: str = "", port: int = 0, socket: Path | None = None
    ) -> None:
        self._label = label
        self._socket = socket
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            uds=None if socket is None else str(socket),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def on_port(cls, app: Starlette, host: str, port: int, option: str) -> Self:
        """Serve on a port that a command-line option chose."""
        return cls(app, f"{host}:{port} ({option})", host=host, port=port)

    @classmethod
    def on_socket(cls, app: Starlette, path: Path) -> Self:
        """Serve on a unix socket."""
        return cls(app, str(path), socket=path)

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                raise ServeError(f"Cannot listen on {self._label}.")
            await asyncio.sleep(0.01)
        if self._socket is not None:
            self._socket.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Leaves signals to the supervisor, and returns from `serve` if it cannot listen."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`."""
        with contextlib.suppress(SystemExit):  # uvicorn would end the whole program
            await super().serve(sockets)

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Capture no signals."""
        return contextlib.nullcontext()
