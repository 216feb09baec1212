"""The application: routes, what surrounds them, and the parts that they use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway import problems, secrets
from gateway.access import factory as chosen
from gateway.api import health, models, openapi, predictions, results, uploads
from gateway.backends.base import Backend
from gateway.backends.server import TorchServe
from gateway.errors import SettingsError
from gateway.history import factory as opening
from gateway.middleware import CORS, BodySizeLimit, RequestContext
from gateway.rate_limit import AuthFailureLimiter, Rate
from gateway.services import Services
from gateway.settings import Settings
from gateway.static_files import Page
from gateway.uploads.presigned import Uploads
from gateway.uploads.references import References, Source
from gateway.uploads.url_fetcher import Fetch


def make(settings: Settings) -> FastAPI:
    """Make the application that settings describe.

    Raises
    ------
    SettingsError, KeysError
        If a part of it cannot be made.
    """
    settings = secrets.resolve(settings)
    taken = Uploads.of(settings)
    return assemble(
        Services(
            settings=settings,
            backend=_backend(settings),
            access=chosen.make(settings),
            keeping=opening.keeping(settings),
            references=References(_sources(settings, taken)),
            rate=Rate(settings),
            wrong=AuthFailureLimiter(settings.failures),
            uploads=taken,
        )
    )


def assemble(services: Services) -> FastAPI:
    """Make an application of parts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.keeping.open()
        try:
            yield
        finally:
            await services.keeping.close()
            await services.backend.close()
            if services.rate is not None:
                await services.rate.close()

    app = FastAPI(
        title="RadServe",
        version=version("radserve"),
        description="Asks radiology models about images. No medical device: no decision about a person may rest on it.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.services = services
    problems.install(app)
    openapi.install(app)
    for router in (health.router, models.router, predictions.router, results.router, uploads.router):
        app.include_router(router)
    app.router.default = Page()  # no mount: it would answer 404 where 405 is true
    app.add_middleware(BodySizeLimit, max_bytes=services.settings.max_bytes, way_out=_way_out(services.settings))
    if services.settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=services.settings.origins, **CORS)
    app.add_middleware(RequestContext, storage=services.uploads.origin if services.uploads else "")
    return app


def _backend(settings: Settings) -> Backend:
    if settings.archive is None:
        return TorchServe(settings)
    try:
        from gateway.backends.in_process import InProcess  # it loads torch
    except ImportError as error:
        raise SettingsError(
            f"RADSERVE_GATEWAY_ARCHIVE: no model can be loaded, for {error.name} is not installed here. The image "
            "`lambda` has what it needs; the image `gateway` and the Lambda package ask a server instead."
        ) from error
    return InProcess(settings.archive)


def _sources(settings: Settings, taken: Uploads | None) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if settings.url_hosts:
        found["url"] = Fetch(settings)
    if taken is not None:
        found["object"] = taken
    return found


def _way_out(settings: Settings) -> str:
    if settings.uploads:
        return "Larger ones go to storage first: POST /api/uploads says where to."
    return "Send the image smaller or compressed, or fewer images at once."
