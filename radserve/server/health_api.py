"""What the supervisor answers over HTTP, on a port of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.auth import endpoint as auth
from radserve.auth.keyring import Keyring
from radserve.server import catalog
from radserve.server.asgi import AsgiServer
from radserve.server.metrics import endpoint

if TYPE_CHECKING:
    from radserve.server.supervisor import Supervisor


class Health:
    """Answers /live, /ready, /auth, /catalog and /metrics while it is entered.

    /live is 200 as long as the supervisor runs; /ready is 200 when requests will be answered, else 503.
    Both say in `state` and `detail` why. /catalog says what is served, and /catalog/NAME/VERSION/card and /sample
    are the model card and the sample of a version.
    """

    def __init__(self, host: str, port: int, supervisor: Callable[[], Supervisor], keyring: Keyring | None) -> None:
        self._supervisor = supervisor
        routes = [Route("/live", self._live), Route("/ready", self._ready), Route("/metrics", endpoint(supervisor))]
        routes.append(auth.route(keyring))
        routes.append(Route("/catalog", self._catalog))
        routes.append(Route("/catalog/{name}/{version}/{part}", self._part))
        self._listening = AsgiServer.on_port(Starlette(routes=routes), host, port, "--health-port")

    async def _live(self, _: Request) -> JSONResponse:
        return self._say(200)

    async def _ready(self, _: Request) -> JSONResponse:
        return self._say(200 if self._supervisor().state.value == "ready" else 503)

    async def _catalog(self, _: Request) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(self._supervisor().catalog))

    async def _part(self, request: Request) -> Response:
        member = self._supervisor().member(request.path_params["name"], request.path_params["version"])
        if member is None:
            return Response(status_code=404)
        match request.path_params["part"]:
            case "card":
                text = await run_in_threadpool(catalog.card, member[0])
                return Response(text, media_type="text/markdown") if text is not None else Response(status_code=404)
            case "sample":
                return Response(member[1], media_type="application/octet-stream")
        return Response(status_code=404)

    def _say(self, status: int) -> JSONResponse:
        supervisor = self._supervisor()
        return JSONResponse({"state": supervisor.state.value, "detail": supervisor.detail}, status)

    async def __aenter__(self) -> Self:
        await self._listening.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.__aexit__()
