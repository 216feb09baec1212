"""What the supervisor answers over HTTP, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from radserve import auth
from radserve.errors import ServeError
from radserve.keyring import Keyring
from radserve.metrics import endpoint

if TYPE_CHECKING:
    from radserve.supervisor import Supervisor


class Health:
    """Answers /live, /ready, /auth and /metrics while it is entered.

    /live is 200 as long as the supervisor runs; /ready is 200 when requests will be answered, else 503.
    Both say in `state` and `detail` why.
    """

    def __init__(self, host: str, port: int, supervisor: Callable[[], Supervisor], keyring: Keyring | None) -> None:
        self._supervisor = supervisor
        routes = [Route("/live", self._live), Route("/ready", self._ready), Route("/metrics", endpoint(supervisor))]
        routes.append(auth.route(keyring))
        config = uvicorn.Config(
            Starlette(routes=routes), host=host, port=port, lifespan="off", log_config=None, access_log=False
        )
        self._where = f"{host}:{port}"
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def _live(self, _: Request) -> JSONResponse:
        return self._say(200)

    async def _ready(self, _: Request) -> JSONResponse:
        return self._say(200 if self._supervisor().state.value == "ready" else 503)

    def _say(self, status: int) -> JSONResponse:
        supervisor = self._supervisor()
        return JSONResponse({"state": supervisor.state.value, "detail": supervisor.detail}, status)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                raise ServeError(f"Cannot listen on {self._where} (--health-port).")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    """Leaves signals to the supervisor, and its own failure to the one who entered it."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return contextlib.nullcontext()
