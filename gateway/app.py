"""The application: routes, what surrounds them, and the parts that they use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from gateway import problems
from gateway.access import Access, Open
from gateway.api import health, models, predictions, results
from gateway.backend import Backend
from gateway.keeping import Keeping
from gateway.middleware import Longest, Outermost
from gateway.references import References, Source
from gateway.services import Services
from gateway.settings import Settings
from gateway.torchserve import TorchServe

STATIC: Final = Path(__file__).resolve().parent / "static"


def make(settings: Settings) -> FastAPI:
    """Make the application that settings describe.

    Raises
    ------
    SettingsError, KeysError
        If a part of it cannot be made.
    """
    return assemble(
        Services(
            settings=settings,
            backend=_backend(settings),
            access=_access(settings),
            keeping=Keeping(None, settings),
            references=References(_sources(settings)),
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
    for router in (health.router, models.router, predictions.router, results.router):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    app.add_middleware(Longest, max_bytes=services.settings.max_bytes, way_out=_way_out(services.settings))
    app.add_middleware(Outermost)
    return app


def _backend(settings: Settings) -> Backend:
    return TorchServe(settings)


def _access(_: Settings) -> Access:
    return Open()


def _sources(_: Settings) -> dict[str, Source]:
    return {}


def _way_out(settings: Settings) -> str:
    if settings.uploads:
        return "Larger ones go to storage first: POST /api/uploads says where to."
    return "Send the image smaller or compressed, or fewer images at once."
