"""An application around a told backend, asked in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gateway.access import Access, Open
from gateway.app import assemble
from gateway.backend import Backend
from gateway.history import History
from gateway.keeping import Keeping
from gateway.references import References, Source
from gateway.services import Services
from gateway.settings import Settings


def services(
    backend: Backend,
    settings: Settings | None = None,
    *,
    access: Access | None = None,
    history: History | None = None,
    sources: dict[str, Source] | None = None,
) -> Services:
    """Put the parts of an application together."""
    chosen = settings or Settings.read()
    return Services(chosen, backend, access or Open(), Keeping(history, chosen), References(sources or {}))


@asynccontextmanager
async def asking(parts: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application, lifespan included, and make a client of it."""
    app = assemble(parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
    ):
        yield client
