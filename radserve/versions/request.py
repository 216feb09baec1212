"""What the control API reads of a request, and how it says no."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handlers.errors import RadServeError
from radserve.errors import ArchiveError, ChangeError, InvalidChangeError
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve.registry import Pair
from radserve.versions.audit_log import Actor
from radserve.versions.deployment_spec import Deployment, parse

Handler = Callable[[Request], Awaitable[Response]]

_LONGEST: Final = 1_000_000
"""Bytes of a request's JSON."""
_MOST_WORKERS: Final = 64
_PROBLEM: Final = "application/problem+json"


def route(path: str, handler: Handler, *methods: str) -> Route:
    """Make a route whose errors are problem details (RFC 9457)."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except ChangeError as error:
            return problem(error.status, error.title, str(error))
        except ArchiveError as error:
            return problem(409, "Conflict", str(error))
        except RadServeError as error:
            return problem(502, "The version failed", str(error))

    return Route(path, answered, methods=list(methods))


def problem(status: int, title: str, detail: str) -> Response:
    """Say no."""
    document = {"status": status, "title": title, "detail": detail}
    return Response(json.dumps(document), status, headers={"content-type": _PROBLEM})


async def unknown(_: Request, error: Exception) -> Response:
    """Answer what no route takes."""
    status = getattr(error, "status_code", 404)
    detail = "Nothing is open at this path." if status == 404 else "This path takes another method."
    return problem(status, "Not found" if status == 404 else "Method not allowed", detail)


def pair(request: Request) -> Pair:
    """Return name and version of a path."""
    return request.path_params["name"], request.path_params["version"]


def by(request: Request, body: dict[str, Any] | None = None) -> Actor:
    """Say who asks: the front's key, or the local user's word for himself."""
    headers = request.headers
    key, user = headers.get("x-key-name"), headers.get("x-actor")
    reason = (body or {}).get("reason") or request.query_params.get("reason", "")
    if not isinstance(reason, str):
        raise InvalidChangeError(f"reason has value {reason!r}; it must be text.")
    return Actor(f"key {key}" if key else f"user {user}" if user else "unknown", reason[:1000])


async def document(request: Request, *known: str) -> dict[str, Any]:
    """Read a JSON object, or nothing.

    Parameters
    ----------
    known
        Keys that it may have; any if none is named.

    Raises
    ------
    WrongChange
        If it is something else, or has another key.
    """
    body = await _body(request)
    try:
        found = json.loads(body) if body else {}
    except ValueError as error:
        raise InvalidChangeError(f"The body is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidChangeError("The body must be a JSON object.")
    others = set(found) - set(known) if known else set()
    if others:
        raise InvalidChangeError(f"Key {min(others)!r} is not known; there are: {', '.join(known)}.")
    return found


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST:
            raise InvalidChangeError(f"The body is longer than {_LONGEST} bytes.")
    return body


async def deployment(request: Request) -> Deployment:
    """Read a deployment.

    Raises
    ------
    WrongChange
        If it is none.
    """
    try:
        return parse((await _body(request)).decode(), "deployment")
    except (RadServeError, UnicodeDecodeError) as error:
        raise InvalidChangeError(str(error)) from error


def workers(value: object) -> int:
    """Read a number of workers.

    Raises
    ------
    WrongChange
        If it is none.
    """
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKERS:
        raise InvalidChangeError(
            f"workers has value {value!r}; it must be a whole number between 1 and {_MOST_WORKERS}."
        )
    return int(text)


def plan(found: dict[str, Any]) -> RolloutSpec:
    """Read how a rollout is to go.

    Raises
    ------
    WrongChange
        Naming the key and the value that are wrong.
    """
    try:
        return RolloutSpec.model_validate(found | {"reason": found.get("reason") or ""})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        value = f" (value {first['input']!r})" if where else ""
        raise InvalidChangeError(f"{where or 'rollout'}: {first['msg']}{value}.") from error
