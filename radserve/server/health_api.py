"""Health API of the supervisor: /live, /ready, /auth, /catalog and /metrics."""

from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.auth import endpoint as auth
from radserve.auth.key_check import Keyring
from radserve.build import catalog
from radserve.host.background import BackgroundTasks
from radserve.schema.domain import Mode
from radserve.server.asgi import LocalOnly
from radserve.server.metrics import MetricsEndpoint
from radserve.server.status import ServerStatus
from radserve.torchserve.registry import ModelVersion
from radserve.versions.views import Views

_OTHER_PORT: Final = {
    "status": 404,
    "title": "Not the inference port",
    "detail": "This is the health port (--health-port), with /live, /ready, /auth, /catalog and /metrics. Send images "
    "to the port of --port (8080 by default, or 8443 with keys).",
}


def health_app(
    status: ServerStatus,
    tasks: BackgroundTasks,
    views: Views,
    store: Path,
    mode: Mode,
    metrics: MetricsEndpoint,
    keyring: Keyring | None,
) -> Starlette:
    """Return the application.

    /live responds with 200 while the supervisor runs, /ready with 200 while every model answers, else 503; the body
    holds `state` and `detail`, and `problems` that do not concern predictions. /catalog lists the versions that are
    open to requests, and whether each is ready; /catalog/NAME/VERSION/card and /sample are the model card and the
    sample image of one of them, from its archive in the model store. Other paths, such as those of predictions, get a
    404 that names the port for them.
    """
    registry = views.version_manager.registry

    def report(code: int) -> JSONResponse:
        problems = [*tasks.problems, *views.version_manager.problems]
        document = {"state": status.state.value, "detail": status.detail}
        return JSONResponse(document | ({"problems": problems} if problems else {}), code)

    async def live(_: Request) -> Response:
        return report(200)

    async def ready(_: Request) -> Response:
        return report(200 if status.state.answers else 503)

    async def list_versions(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(_catalog, views, store, mode, status))

    def open_version(request: Request) -> ModelVersion | None:
        version = registry.get(**request.path_params)
        return version if version is not None and views.is_open(version) else None

    async def card(request: Request) -> Response:
        version = open_version(request)
        text = await run_in_threadpool(catalog.card, store / version.entry.file) if version else None
        return Response(status_code=404) if text is None else Response(text, media_type="text/markdown")

    async def sample(request: Request) -> Response:
        version = open_version(request)
        if version is None:
            return Response(status_code=404)
        return Response(version.model.sample, media_type="application/octet-stream")

    async def not_found(_: Request, __: Exception) -> Response:
        return JSONResponse(_OTHER_PORT, 404, media_type="application/problem+json")

    return Starlette(
        exception_handlers={404: not_found},
        routes=[
            Route("/live", live),
            Route("/ready", ready),
            Route("/metrics", metrics, methods=["GET"]),
            auth.route(keyring),
            Route("/catalog", list_versions),
            Route("/catalog/{name}/{version}/card", card),
            Route("/catalog/{name}/{version}/sample", sample),
        ],
        middleware=[Middleware(LocalOnly)],
    )


def _catalog(views: Views, store: Path, mode: Mode, status: ServerStatus) -> dict[str, Any]:
    versions = [version for version in views.version_manager.registry if views.is_open(version)]
    return catalog.catalog(
        (
            version.entry.name,
            catalog.version(
                version.entry,
                version.model.recipe,
                store / version.entry.file,
                views.share(*version.pair),
                mode,
                version.model.profile.reference if version.model.profile else None,
            )
            | {"ready": status.is_ready(version)},
        )
        for version in versions
    )
