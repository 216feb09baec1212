"""Applications for tests, in this process, and clients for them."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from gateway.access import ALL_ROLES, Authenticator, Caller
from gateway.app import assemble
from gateway.backends.base import Backend
from gateway.history import History
from gateway.history.recorder import HistoryRecorder
from gateway.services import Services
from gateway.settings import Settings
from tests.gateway.fake_backend import FakeBackend


class AllowAll:
    """Accepts every request, from every address."""

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        return Caller("local", ALL_ROLES)


def services(
    backend: Backend | None = None,
    settings: Settings | None = None,
    *,
    authenticator: Authenticator | None = None,
    history: History | None = None,
) -> Services:
    """Create services; by default with a fake backend, and without authentication and history."""
    settings = settings or Settings.read()
    return Services(
        settings=settings,
        backend=backend or FakeBackend(),
        authenticator=authenticator or AllowAll(),
        recorder=HistoryRecorder(history, settings),
    )


@asynccontextmanager
async def running_client(parts: Services) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application with its lifespan, and return a client for it."""
    app = assemble(parts)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
    ):
        yield client


def gateway(
    authenticator: Authenticator | None = None,
    backend: Backend | None = None,
    settings: Settings | None = None,
    **parts: Any,
) -> FastAPI:
    """Create an application; `parts` are further fields of its services."""
    return assemble(replace(services(backend, settings, authenticator=authenticator), **parts))


def client(app: FastAPI, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """Return a client for an application, with the address that the application sees."""
    transport = httpx.ASGITransport(app, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port, for clients that cannot call it; return HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()  # connections wait in the socket's queue until the server accepts them
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
