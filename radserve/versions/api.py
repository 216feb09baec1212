"""The control API: HTTP on a socket in the runtime folder, and behind the front's management port.

Who can open the socket manages the server; the front lets in keys with the role `manage` and says whose they are.
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radserve.errors import InvalidChangeError
from radserve.versions import deployment_spec
from radserve.versions import request as asked
from radserve.versions.rollout_manager import Rollouts
from radserve.versions.shadow import Copy
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views

_MOST_ENTRIES = 10_000


class Api:
    """Answers for one server."""

    def __init__(self, changes: VersionManager, rollouts: Rollouts, listing: Views) -> None:
        self._changes = changes
        self._rollouts = rollouts
        self._listing = listing

    def routes(self) -> list[Route]:
        """Return the routes."""
        version, rollout = "/versions/{name}/{version}", "/rollouts/{name}"
        return [
            asked.route("/versions", self._all, "GET"),
            asked.route("/versions/{name}", self._show, "GET"),
            asked.route("/versions/{name}/rollback", self._rollback, "POST"),
            asked.route(f"{version}/promote", self._promote, "POST"),
            asked.route(version, self._register, "POST"),
            asked.route(version, self._scale, "PATCH"),
            asked.route(version, self._unregister, "DELETE"),
            asked.route("/deployment", self._deployment, "GET"),
            asked.route("/deployment", self._apply, "PUT"),
            asked.route("/deployment/diff", self._diff, "POST"),
            asked.route("/rollouts", self._all_rollouts, "GET"),
            asked.route(rollout, self._rollout, "GET"),
            asked.route(rollout, self._roll_out, "POST"),
            asked.route(rollout, self._give_up, "DELETE"),
            asked.route("/audit", self._audit, "GET"),
            asked.route("/shadow/{name}", self._copy, "POST", "PUT"),
        ]

    # -- Versions.

    async def _all(self, _: Request) -> Response:
        return JSONResponse(await self._listing.all())

    async def _show(self, request: Request) -> Response:
        return JSONResponse(await self._listing.model(request.path_params["name"]))

    async def _register(self, request: Request) -> Response:
        body = await asked.document(request, "workers", "reason")
        workers = None if body.get("workers") is None else asked.workers(body["workers"])
        member = await self._changes.register(*asked.pair(request), workers, asked.by(request, body))
        return JSONResponse(await self._listing.version(member), 201)

    async def _scale(self, request: Request) -> Response:
        body = await asked.document(request, "workers", "reason")
        workers = asked.workers(body.get("workers"))
        member = await self._changes.scale(*asked.pair(request), workers, asked.by(request, body))
        return JSONResponse(await self._listing.version(member))

    async def _unregister(self, request: Request) -> Response:
        force = request.query_params.get("force") == "true"
        await self._changes.unregister(*asked.pair(request), asked.by(request), force=force)
        return Response(status_code=204)

    async def _promote(self, request: Request) -> Response:
        name, version = asked.pair(request)
        await self._changes.promote(name, version, asked.by(request, await asked.document(request, "reason")))
        return JSONResponse(await self._listing.model(name))

    async def _rollback(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        by = asked.by(request, await asked.document(request, "reason"))
        run = self._rollouts.find(name)
        given_up = False
        if run is not None and not run.done:
            await run.give_up(by)
            given_up = run.rolled_back
        if not given_up:
            await self._changes.rollback(name, by)
        return JSONResponse(await self._listing.model(name))

    # -- What is declared.

    async def _deployment(self, _: Request) -> Response:
        return JSONResponse(self._changes.ledger.deployment.model_dump(exclude_none=True))

    async def _diff(self, request: Request) -> Response:
        wanted = await asked.deployment(request)
        found = deployment_spec.changes(self._changes.ledger.deployment, wanted)
        return JSONResponse({"changes": [item.model_dump() for item in found]})

    async def _apply(self, request: Request) -> Response:
        found = await self._changes.apply(await asked.deployment(request), asked.by(request))
        return JSONResponse({"changes": [item.model_dump() for item in found]})

    # -- Rollouts.

    async def _all_rollouts(self, _: Request) -> Response:
        return JSONResponse({"rollouts": [run.document() for run in self._rollouts.all()]})

    async def _rollout(self, request: Request) -> Response:
        return JSONResponse(self._rollouts.get(request.path_params["name"]).document())

    async def _roll_out(self, request: Request) -> Response:
        body = await asked.document(request)
        plan, by = asked.plan(body), asked.by(request, body)
        run = await self._rollouts.start(request.path_params["name"], plan, by)
        return JSONResponse(run.document(), 202)

    async def _give_up(self, request: Request) -> Response:
        run = await self._rollouts.give_up(request.path_params["name"], asked.by(request))
        return JSONResponse(run.document())

    async def _copy(self, request: Request) -> Response:
        """Take a copy of a client's request from the front; the front waits for this, so it is only put aside."""
        run = self._rollouts.find(request.path_params["name"])
        shadow = run.shadow if run is not None and not run.done else None
        if shadow is None:
            return Response(status_code=404)
        copy = Copy(await request.body(), dict(request.headers), request.headers.get("x-request-id", ""))
        return Response(status_code=202 if shadow.take(copy) else 503)

    async def _audit(self, request: Request) -> Response:
        text = request.query_params.get("limit", "100")
        if not text.isdecimal() or not 1 <= int(text) <= _MOST_ENTRIES:
            raise InvalidChangeError(f"limit has value {text!r}; it must be between 1 and {_MOST_ENTRIES}.")
        entries = await asyncio.to_thread(self._changes.ledger.audit.entries, int(text))
        return JSONResponse({"entries": [entry.model_dump() for entry in entries]})


def application(*routes: Route) -> Starlette:
    """Make the application; what no route takes is a problem document as well."""
    return Starlette(routes=routes, exception_handlers={404: asked.unknown, 405: asked.unknown})
