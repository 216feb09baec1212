"""Serves the control API: HTTP on a socket in the run directory, and behind the proxy's management port.

Every process that can open the socket may manage the server. The proxy forwards requests whose key has the role
`manage`, together with the key's name.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.errors import InvalidChangeError
from radserve.schema.control import AuditLog
from radserve.schema.deployment import DeploymentDiff
from radserve.versions import deployment_file
from radserve.versions.request_parsing import (
    read_actor,
    read_deployment,
    read_json,
    read_pair,
    read_rollout_spec,
    read_workers,
    route,
    unknown_route,
)
from radserve.versions.rollback import roll_back
from radserve.versions.rollout_manager import RolloutManager
from radserve.versions.shadow import CopiedRequest
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views

_MAX_ENTRIES: Final = 10_000


@dataclass
class ControlApi:
    """Handles the requests of one server."""

    version_manager: VersionManager
    rollouts: RolloutManager
    views: Views

    def routes(self) -> list[Route]:
        """Return the routes."""
        model, version, rollout = "/versions/{name}", "/versions/{name}/{version}", "/rollouts/{name}"
        return [
            route("/versions", self._list_models, "GET"),
            route(model, self._show_model, "GET"),
            route(f"{model}/rollback", self._rollback, "POST"),
            route(f"{version}/promote", self._promote, "POST"),
            route(f"{version}/release", self._release, "POST"),
            route(version, self._register, "POST"),
            route(version, self._scale, "PATCH"),
            route(version, self._unregister, "DELETE"),
            route("/deployment", self._show_deployment, "GET"),
            route("/deployment", self._apply, "PUT"),
            route("/deployment/diff", self._diff, "POST"),
            route("/rollouts", self._list_rollouts, "GET"),
            route(rollout, self._show_rollout, "GET"),
            route(rollout, self._start_rollout, "POST"),
            route(rollout, self._abort_rollout, "DELETE"),
            route("/audit", self._list_audit_entries, "GET"),
            route("/audit/verification", self._verify_audit_log, "GET"),
            route("/shadow/{name}", self._add_shadow_copy, "POST", "PUT"),
        ]

    async def _list_models(self, _: Request) -> Response:
        return _json(await self.views.server())

    async def _show_model(self, request: Request) -> Response:
        return _json(await self.views.model(request.path_params["name"]))

    async def _register(self, request: Request) -> Response:
        body = await read_json(request, "workers", "reason")
        workers = None if body.get("workers") is None else read_workers(body["workers"])
        model_version = await self.version_manager.register(*read_pair(request), workers, read_actor(request, body))
        return _json(await self.views.version(model_version), 201)

    async def _scale(self, request: Request) -> Response:
        body = await read_json(request, "workers", "reason")
        workers = read_workers(body.get("workers"))
        model_version = await self.version_manager.scale(*read_pair(request), workers, read_actor(request, body))
        return _json(await self.views.version(model_version))

    async def _unregister(self, request: Request) -> Response:
        force = request.query_params.get("force") == "true"
        await self.version_manager.unregister(*read_pair(request), read_actor(request), force=force)
        return Response(status_code=204)

    async def _promote(self, request: Request) -> Response:
        name, version = read_pair(request)
        await self.version_manager.promote(name, version, read_actor(request, await read_json(request, "reason")))
        return _json(await self.views.model(name))

    async def _release(self, request: Request) -> Response:
        name, version = read_pair(request)
        await self.version_manager.release(name, version, read_actor(request, await read_json(request, "reason")))
        return _json(await self.views.model(name))

    async def _rollback(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        actor = read_actor(request, await read_json(request, "reason"))
        rollout = self.rollouts.find(name)
        if rollout is None or rollout.done or not await rollout.abort(actor):
            await roll_back(self.version_manager, name, actor)
        return _json(await self.views.model(name))

    async def _show_deployment(self, _: Request) -> Response:
        return JSONResponse(self.version_manager.deployment_state.deployment.model_dump(exclude_none=True))

    async def _diff(self, request: Request) -> Response:
        current = self.version_manager.deployment_state.deployment
        return _json(DeploymentDiff(changes=deployment_file.changes(current, await read_deployment(request))))

    async def _apply(self, request: Request) -> Response:
        changes = await self.version_manager.apply(await read_deployment(request), read_actor(request))
        return _json(DeploymentDiff(changes=changes))

    async def _list_rollouts(self, _: Request) -> Response:
        return JSONResponse({"rollouts": [rollout.status().model_dump(mode="json") for rollout in self.rollouts]})

    async def _show_rollout(self, request: Request) -> Response:
        return _json(self.rollouts.get(request.path_params["name"]).status())

    async def _start_rollout(self, request: Request) -> Response:
        body = await read_json(request)
        rollout = await self.rollouts.start(
            request.path_params["name"], read_rollout_spec(body), read_actor(request, body)
        )
        return _json(rollout.status(), 202)

    async def _abort_rollout(self, request: Request) -> Response:
        rollout = await self.rollouts.abort(request.path_params["name"], read_actor(request))
        return _json(rollout.status())

    async def _add_shadow_copy(self, request: Request) -> Response:
        """Queue a copy of a client's request. The proxy waits for the response, so nothing else happens here."""
        rollout = self.rollouts.find(request.path_params["name"])
        if rollout is None or rollout.done or rollout.shadow is None:
            return Response(status_code=404)
        copy = CopiedRequest(await request.body(), dict(request.headers), request.headers.get("x-request-id", ""))
        return Response(status_code=202 if rollout.shadow.add(copy) else 503)

    async def _list_audit_entries(self, request: Request) -> Response:
        text = request.query_params.get("limit", "100")
        if not text.isdecimal() or not 1 <= int(text) <= _MAX_ENTRIES:
            raise InvalidChangeError(f"limit has value {text!r}; it must be between 1 and {_MAX_ENTRIES}.")
        entries = await asyncio.to_thread(self.version_manager.deployment_state.audit.entries, int(text))
        return _json(AuditLog(entries=tuple(entries)))

    async def _verify_audit_log(self, request: Request) -> Response:
        audit = self.version_manager.deployment_state.audit
        return _json(await asyncio.to_thread(audit.verify, request.query_params.get("head")))


def _json(document: BaseModel, status: int = 200) -> Response:
    return Response(document.model_dump_json(), status, media_type="application/json")


def application(*routes: Route) -> Starlette:
    """Return the application; unknown paths and methods get problem details as well."""
    return Starlette(routes=routes, exception_handlers={404: unknown_route, 405: unknown_route})
