"""Holds the requests of a model back while TorchServe ends one of its workers, which would lose its batch.

While a model's flag file exists, nginx calls `/gate` of this process before it forwards a request, once it has received
the body (radserve/proxy/nginx.conf.template). The response comes as soon as requests are no longer held.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radserve.host.run_directory import RunDirectory

_FORWARD: Final = {"X-Accel-Redirect": "@torchserve"}


class RequestHold:
    """Holds requests of each model, for at most `max_seconds`: nginx gives up after 60 s."""

    def __init__(self, run_directory: RunDirectory, max_seconds: float = 50.0) -> None:
        self._folder = run_directory.gates
        self._max_seconds = max_seconds
        self._held: dict[str, asyncio.Event] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def route(self) -> Route:
        """Return the route that nginx calls."""
        return Route("/gate/{name}", self._pass, methods=["GET", "POST", "PUT"])

    async def _pass(self, request: Request) -> Response:
        released = self._held.get(request.path_params["name"])
        if released is not None:
            await released.wait()
        return Response(headers=_FORWARD)

    @asynccontextmanager
    async def watched(self, name: str) -> AsyncIterator[None]:
        """Make nginx call this process before it forwards a request of a model."""
        flag = self._folder / name
        flag.touch(mode=0o600)
        try:
            yield
        finally:
            flag.unlink(missing_ok=True)

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[asyncio.Event]:
        """Hold new requests of a watched model; the event says whether they had to be released early."""
        released = self._held[name] = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(self._max_seconds, released.set)
        try:
            yield released
        finally:
            timer.cancel()
            del self._held[name]
            released.set()
