"""What the supervisor answers over HTTP, on a port of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from radserve import auth
from radserve.asgi import Listening
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
        self._listening = Listening.on_port(Starlette(routes=routes), host, port, "--health-port")

    async def _live(self, _: Request) -> JSONResponse:
        return self._say(200)

    async def _ready(self, _: Request) -> JSONResponse:
        return self._say(200 if self._supervisor().state.value == "ready" else 503)

    def _say(self, status: int) -> JSONResponse:
        supervisor = self._supervisor()
        return JSONResponse({"state": supervisor.state.value, "detail": supervisor.detail}, status)

    async def __aenter__(self) -> Self:
        await self._listening.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.__aexit__()
