"""Creates the application: services, routes and middleware."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import Depends, FastAPI

from gateway import problems
from gateway.access import authentication
from gateway.api import cases, documentation, health, models, open_inference, openapi, predictions, results, uploads
from gateway.api.parameters import require_known_query
from gateway.backends.base import Backend
from gateway.backends.server import ServerBackend
from gateway.cors import CrossOrigin
from gateway.errors import SettingsError
from gateway.history import recorder
from gateway.middleware import BodySizeLimit, HeadRequests, RequestContext
from gateway.pacs_loop import PacsLoop
from gateway.rate_limit import AuthFailureLimiter, RateLimiter
from gateway.services import Services, authenticate
from gateway.settings import Settings
from gateway.static_files import PageFiles
from gateway.trailing_slash import TrailingSlash
from gateway.uploads.presigned import UploadStore
from gateway.uploads.url_fetcher import UrlFetcher
from radserve.tracing import Tracer


def create(settings: Settings) -> FastAPI:
    """Create an application from settings; raises SettingsError or KeysError if a service cannot be created."""
    settings = settings.resolve_secrets()
    return assemble(
        Services(
            settings=settings,
            backend=_create_backend(settings),
            authenticator=authentication.create(settings),
            recorder=recorder.create(settings),
            rate_limiter=RateLimiter(settings),
            auth_failures=AuthFailureLimiter(settings.failures),
            uploads=UploadStore.from_settings(settings),
            url_fetcher=UrlFetcher(settings) if settings.url_hosts else None,
            pacs=PacsLoop.from_settings(settings),
            tracer=Tracer.create("radserve-gateway"),
        )
    )


def assemble(services: Services) -> FastAPI:
    """Create an application from services."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.recorder.open()
        try:
            yield
        finally:
            await services.recorder.close()
            await services.backend.close()
            if services.pacs is not None:
                await services.pacs.close()
            if services.rate_limiter is not None:
                await services.rate_limiter.close()
            await asyncio.to_thread(services.tracer.close)

    app = FastAPI(
        title="RadServe",
        version=version("radserve"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
    )
    app.state.services = services
    problems.install(app)
    openapi.install(app)
    known_query = Depends(require_known_query)
    for public in (health.router, open_inference.public, documentation.router):  # probes may have any query
        app.include_router(public)
    for module in (models, predictions, results, uploads, cases, open_inference):
        app.include_router(module.router, dependencies=[Depends(authenticate), known_query])  # 401 comes before 422
    # Not mounted: a mount would turn 405 responses of the API into 404.
    app.router.default = TrailingSlash(app.routes, otherwise=PageFiles())
    settings = services.settings
    app.add_middleware(HeadRequests)
    app.add_middleware(BodySizeLimit, max_bytes=settings.max_bytes, advice=_size_advice(settings))
    app.add_middleware(CrossOrigin, origins=settings.origins)
    storage = services.uploads.origin if services.uploads else ""
    app.add_middleware(RequestContext, storage=storage, tracer=services.tracer)
    return app


def _create_backend(settings: Settings) -> Backend:
    if settings.archive is None:
        return ServerBackend(settings)
    try:
        from gateway.backends.in_process import InProcessBackend  # loads torch
    except ImportError as error:
        raise SettingsError(
            f"RADSERVE_GATEWAY_ARCHIVE cannot be used: {error.name} is not installed. Run pip install "
            "'radserve[gateway,serve]', or use the image radserve/lambda, which can run a model; or unset the "
            "variable to send requests to a server."
        ) from error
    return InProcessBackend(settings.archive)


def _size_advice(settings: Settings) -> str:
    if settings.uploads:
        return "Upload larger images to storage first; see POST /api/uploads."
    return "Send a smaller or compressed image, or fewer images at once."
