"""Holds the requests of a model back while TorchServe ends one of its workers, which would lose its batch.

While a model's flag file exists, nginx calls this process before it forwards a request, once it has received the body
(radserve/proxy/nginx.conf.template). The response comes as soon as the gate is open.
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


class Gate:
    """The gate of each model; `max_seconds` after it was closed it opens in any case, before nginx gives up (60 s)."""

    def __init__(self, run_directory: RunDirectory, max_seconds: float = 50.0) -> None:
        self._folder = run_directory.gates
        self._max_seconds = max_seconds
        self._closed: dict[str, asyncio.Event] = {}

    def route(self) -> Route:
        """Return the route that nginx calls."""
        return Route("/gate/{name}", self._pass, methods=["GET", "POST", "PUT"])

    async def _pass(self, request: Request) -> Response:
        opened = self._closed.get(request.path_params["name"])
        if opened is not None:
            await opened.wait()
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
    async def closed(self, name: str) -> AsyncIterator[asyncio.Event]:
        """Let new requests of a watched model wait; the event says whether the gate had to be opened."""
        opened = self._closed[name] = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(self._max_seconds, opened.set)
        try:
            yield opened
        finally:
            timer.cancel()
            del self._closed[name]
            opened.set()
