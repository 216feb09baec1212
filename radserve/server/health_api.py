"""Health API of the supervisor: /live, /ready, /auth, /catalog and /metrics."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.auth import endpoint as auth
from radserve.auth.key_check import Keyring
from radserve.server.metrics import MetricsEndpoint
from radserve.server.served_models import ServedModels
from radserve.server.status import ServerStatus, State


def health_app(
    status: ServerStatus, models: ServedModels, metrics: MetricsEndpoint, keyring: Keyring | None
) -> Starlette:
    """Return the application.

    /live responds with 200 while the supervisor runs, /ready with 200 while requests are answered, else 503; the body
    holds `state` and `detail`. /catalog lists the served versions; /catalog/NAME/VERSION/card and /sample are the
    model card and the sample image of a version.
    """

    def report(code: int) -> JSONResponse:
        return JSONResponse({"state": status.state.value, "detail": status.detail}, code)

    async def live(_: Request) -> Response:
        return report(200)

    async def ready(_: Request) -> Response:
        return report(200 if status.state is State.READY else 503)

    async def catalog(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(models.catalog))

    async def card(request: Request) -> Response:
        return _file(await run_in_threadpool(models.card, **request.path_params), "text/markdown")

    async def sample(request: Request) -> Response:
        return _file(models.sample(**request.path_params), "application/octet-stream")

    return Starlette(
        routes=[
            Route("/live", live),
            Route("/ready", ready),
            Route("/metrics", metrics, methods=["GET"]),
            auth.route(keyring),
            Route("/catalog", catalog),
            Route("/catalog/{name}/{version}/card", card),
            Route("/catalog/{name}/{version}/sample", sample),
        ]
    )


def _file(content: bytes | None, media_type: str) -> Response:
    return Response(status_code=404) if content is None else Response(content, media_type=media_type)
