"""Parses requests to the control API, and reports their errors as problem details (RFC 9457).

Every `read_*` function raises InvalidChangeError for what is invalid.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radserve.errors import ArchiveError, ChangeError, InvalidChangeError, RadServeError
from radserve.schema.deployment import Deployment
from radserve.schema.problem import ProblemDetails
from radserve.schema.rollout import RolloutSpec
from radserve.torchserve.registry import Pair
from radserve.validation_error import describe
from radserve.versions.audit_log import Actor
from radserve.versions.deployment_file import parse

_MAX_BODY: Final = 1_000_000
_MAX_WORKERS: Final = 64
_MAX_REASON: Final = 1000


def route(path: str, handler: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
    """Return a route that renders errors as problem details."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ChangeError as error:
            return problem(error.status, error.title, str(error))
        except ArchiveError as error:
            return problem(409, "Conflict", str(error))
        except RadServeError as error:
            return problem(502, "The version failed", str(error))

    return Route(path, endpoint, methods=list(methods))


def problem(status: int, title: str, detail: str) -> Response:
    """Return a response with problem details."""
    document = ProblemDetails(status=status, title=title, detail=detail)
    return Response(document.model_dump_json(exclude_none=True), status, media_type="application/problem+json")


async def unknown_route(_: Request, error: Exception) -> Response:
    """Render the problem details of an unknown path or method."""
    if getattr(error, "status_code", 404) == 404:
        return problem(404, "Not found", "Unknown path.")
    return problem(405, "Method not allowed", "This path does not support the method.")


def read_pair(request: Request) -> Pair:
    """Return name and version of the path."""
    return request.path_params["name"], request.path_params["version"]


def read_actor(request: Request, body: dict[str, Any] | None = None) -> Actor:
    """Return who makes the request: the name of the proxy's API key, or the name that a local user states."""
    key, user = request.headers.get("x-key-name"), request.headers.get("x-actor")
    reason = (body or {}).get("reason") or request.query_params.get("reason", "")
    if not isinstance(reason, str):
        raise InvalidChangeError(f"reason has value {reason!r}; it must be text.")
    return Actor(f"key {key}" if key else f"user {user}" if user else "unknown", reason[:_MAX_REASON])


async def read_json(request: Request, *keys: str) -> dict[str, Any]:
    """Read a JSON object with the given keys, or any if none is given; an empty body counts as an empty object."""
    body = await _read_body(request)
    try:
        document = json.loads(body) if body else {}
    except ValueError as error:
        raise InvalidChangeError(f"Invalid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise InvalidChangeError("The body must be a JSON object.")
    unknown = set(document) - set(keys) if keys else set()
    if unknown:
        raise InvalidChangeError(f"Unknown key {min(unknown)!r}. Available: {', '.join(keys)}.")
    return document


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise InvalidChangeError(f"The body is longer than {_MAX_BODY} bytes.")
    return body


async def read_deployment(request: Request) -> Deployment:
    """Read a deployment in YAML or JSON."""
    try:
        return parse((await _read_body(request)).decode(), "deployment")
    except (RadServeError, UnicodeDecodeError) as error:
        raise InvalidChangeError(str(error)) from error


def read_workers(value: object) -> int:
    """Read a number of workers."""
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_WORKERS:
        raise InvalidChangeError(
            f"workers has value {value!r}; it must be a whole number between 1 and {_MAX_WORKERS}."
        )
    return int(text)


def read_rollout_spec(document: dict[str, Any]) -> RolloutSpec:
    """Read the specification of a rollout."""
    try:
        return RolloutSpec.model_validate(document)
    except ValidationError as error:
        raise InvalidChangeError(f"Invalid rollout: {describe(error)}.") from error
