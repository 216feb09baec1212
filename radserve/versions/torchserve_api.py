"""TorchServe's own management API, for whoever prefers it: what it changes is verified, remembered and recorded.

https://docs.pytorch.org/serve/management_api.html
"""

from __future__ import annotations

from pathlib import Path

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import ChangeError, NotServedError
from radserve.torchserve.management import Management
from radserve.torchserve.registry import Pair
from radserve.versions import request as asked
from radserve.versions.storage import main_version
from radserve.versions.version_manager import VersionManager


class TorchServeApi:
    """Its paths; questions go on to TorchServe as they are."""

    def __init__(self, changes: VersionManager, management: Management, store: Path) -> None:
        self._changes = changes
        self._management = management
        self._store = store

    def routes(self) -> list[Route]:
        """Return the routes."""
        model, version = "/models/{name}", "/models/{name}/{version}"
        return [
            asked.route("/models", self._register, "POST"),
            asked.route(f"{version}/set-default", self._set_default, "PUT"),
            asked.route(version, self._scale, "PUT"),
            asked.route(model, self._scale, "PUT"),
            asked.route(version, self._unregister, "DELETE"),
            asked.route(model, self._unregister, "DELETE"),
            asked.route("/models{rest:path}", self._ask, "GET"),
        ]

    async def _ask(self, request: Request) -> Response:
        try:
            answer = await self._management.get(request.url.path, request.url.query)
        except httpx.HTTPError as error:
            raise ChangeError(f"TorchServe does not answer ({type(error).__name__}).") from error
        kind = answer.headers.get("content-type", "application/json")
        return Response(answer.content, answer.status_code, headers={"content-type": kind})

    async def _register(self, request: Request) -> Response:
        query = request.query_params
        entry = self._entry(query.get("url", ""))
        workers = asked.workers(query["initial_workers"]) if "initial_workers" in query else None
        await self._changes.register(entry.name, entry.version, workers, asked.by(request))
        return _done(f'Model "{entry.name}" Version: {entry.version} registered')

    def _entry(self, url: str) -> Entry:
        for entry in model_store.read(self._store).archives:
            if entry.file == url:
                return entry
        raise NotServedError(f"url has value {url!r}; it must be the file name of an archive in the model store.")

    async def _scale(self, request: Request) -> Response:
        name, version = self._named(request)
        query = request.query_params
        workers = asked.workers(query.get("min_worker", query.get("max_worker")))
        await self._changes.scale(name, version, workers, asked.by(request))
        return _done(f"Workers scaled to {workers} for model: {name}, version: {version}")

    async def _set_default(self, request: Request) -> Response:
        name, version = asked.pair(request)
        await self._changes.promote(name, version, asked.by(request))
        return _done(f'Default version successfully updated for model "{name}" to "{version}"')

    async def _unregister(self, request: Request) -> Response:
        name, version = self._named(request)
        await self._changes.unregister(name, version, asked.by(request), force=True)
        return _done(f'Model "{name}" unregistered')

    def _named(self, request: Request) -> Pair:
        """Return name and version of a path; where it names no version, TorchServe means the default one."""
        name = str(request.path_params["name"])
        if "version" in request.path_params:
            return asked.pair(request)
        return name, main_version(self._changes.versions(name))


def _done(text: str) -> Response:
    return JSONResponse({"status": text})
