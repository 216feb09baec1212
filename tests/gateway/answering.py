"""An application with access, limits or sources of a test's choice, and a client with an address of its choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.access import Access
from gateway.app import assemble
from gateway.backend import Backend
from gateway.references import Source
from gateway.settings import Settings
from tests.gateway.asked import services
from tests.gateway.backend import Told


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
