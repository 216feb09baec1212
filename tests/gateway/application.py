"""An application in this process, put together as a test needs it, and clients that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.access import Access, Open
from gateway.app import assemble
from gateway.backends.base import Backend
from gateway.history import History
from gateway.history.recorder import HistoryRecorder
from gateway.services import Services
from gateway.settings import Settings
from gateway.uploads.references import References, Source
from tests.gateway.backend import Told


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
    return Services(chosen, backend, access or Open(), HistoryRecorder(history, chosen), References(sources or {}))


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


def gateway(
    access: Access | None = None,
    sources: dict[str, Source] | None = None,
    backend: Backend | None = None,
    settings: Settings | None = None,
    **parts: Any,
) -> FastAPI:
    """Make an application; `parts` are further fields of its services."""
    found = services(backend or Told(), settings, access=access, sources=sources)
    return assemble(replace(found, **parts))


def client(app: FastAPI, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """Make a client that asks an application in this process, from an address."""
    transport = httpx.ASGITransport(app, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")
