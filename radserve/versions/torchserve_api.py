"""Serves TorchServe's management API; its changes are verified, stored and recorded like those of the control API.

https://docs.pytorch.org/serve/management_api.html
"""

from dataclasses import dataclass
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
from radserve.versions.request_parsing import read_actor, read_pair, read_workers, route
from radserve.versions.stored_state import main_version
from radserve.versions.version_manager import VersionManager


@dataclass
class TorchServeApi:
    """Handles changes, and forwards reading requests to TorchServe."""

    version_manager: VersionManager
    management: Management
    store: Path

    def routes(self) -> list[Route]:
        """Return the routes."""
        model, version = "/models/{name}", "/models/{name}/{version}"
        return [
            route("/models", self._register, "POST"),
            route(f"{version}/set-default", self._set_default, "PUT"),
            route(version, self._scale, "PUT"),
            route(model, self._scale, "PUT"),
            route(version, self._unregister, "DELETE"),
            route(model, self._unregister, "DELETE"),
            route("/models{rest:path}", self._forward, "GET"),
        ]

    async def _forward(self, request: Request) -> Response:
        try:
            response = await self.management.get(request.url.path, request.url.query)
        except httpx.HTTPError as error:
            raise ChangeError(f"TorchServe does not respond ({type(error).__name__}).") from error
        media_type = response.headers.get("content-type", "application/json")
        return Response(response.content, response.status_code, headers={"content-type": media_type})

    async def _register(self, request: Request) -> Response:
        query = request.query_params
        entry = self._find_archive(query.get("url", ""))
        workers = read_workers(query["initial_workers"]) if "initial_workers" in query else None
        await self.version_manager.register(entry.name, entry.version, workers, read_actor(request))
        return _status(f'Model "{entry.name}" Version: {entry.version} registered')

    def _find_archive(self, url: str) -> Entry:
        for entry in model_store.read(self.store).archives:
            if entry.file == url:
                return entry
        raise NotServedError(f"url has value {url!r}; it must be the file name of an archive in the model store.")

    async def _scale(self, request: Request) -> Response:
        name, version = self._read_pair(request)
        query = request.query_params
        workers = read_workers(query.get("min_worker", query.get("max_worker")))
        await self.version_manager.scale(name, version, workers, read_actor(request))
        return _status(f"Workers scaled to {workers} for model: {name}, version: {version}")

    async def _set_default(self, request: Request) -> Response:
        name, version = read_pair(request)
        await self.version_manager.promote(name, version, read_actor(request))
        return _status(f'Default version successfully updated for model "{name}" to "{version}"')

    async def _unregister(self, request: Request) -> Response:
        name, version = self._read_pair(request)
        await self.version_manager.unregister(name, version, read_actor(request), force=True)
        return _status(f'Model "{name}" unregistered')

    def _read_pair(self, request: Request) -> Pair:
        """Return name and version of a path; without a version TorchServe means the default one."""
        if "version" in request.path_params:
            return read_pair(request)
        name = str(request.path_params["name"])
        return name, main_version(self.version_manager.declared_versions(name))


def _status(text: str) -> Response:
    return JSONResponse({"status": text})
