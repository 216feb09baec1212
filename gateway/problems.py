"""Renders every error as problem details (RFC 9457)."""

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gateway.errors import HistoryError, ProblemError, UnavailableError, UnprocessableError
from radserve.schema.problem import ProblemDetails

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
OPEN_INFERENCE: Final = "/v2"
"""Prefix of the paths whose clients read the member `error` of a problem (docs/open-inference.md)."""
ResponseDocs = dict[int | str, dict[str, Any]]
"""The `responses` argument of a FastAPI route."""

_HINTS: Final = {
    404: "Unknown path; see /api/docs or /api/openapi.json.",
    405: "This path does not support this method; see /api/docs or /api/openapi.json.",
}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def document(*statuses: int) -> ResponseDocs:
    """Return the OpenAPI description of problem responses."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}


def details(request: Request, error: ProblemError) -> dict[str, Any]:
    """Return the problem details of an error."""
    request_id = getattr(request.state, "request_id", "")
    problem = ProblemDetails(
        status=error.status, title=error.title, detail=str(error), request_id=request_id, domain=error.domain
    )
    return problem.model_dump(exclude_none=True)


def render(request: Request, error: ProblemError) -> JSONResponse:
    """Render an error as a response."""
    document = details(request, error)
    if request.scope["path"].startswith(OPEN_INFERENCE):
        document["error"] = document["detail"]
    return JSONResponse(document, error.status, headers=error.headers, media_type=MEDIA_TYPE)


def describe_validation(errors: Iterable[Mapping[str, Any]], name: Callable[[str], str] = str) -> str:
    """Format pydantic's errors as `FIELD: MESSAGE; ...` without values; `name` converts a field's location."""
    return "; ".join(
        f"{name(' '.join(map(str, error['loc'])))}: {str(error['msg']).removeprefix('Value error, ')}"
        for error in errors
    )


def install(app: FastAPI) -> None:
    """Register the exception handlers; `gateway.middleware` renders unexpected exceptions."""

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> JSONResponse:
        return render(request, error)

    @app.exception_handler(HistoryError)
    async def history(request: Request, error: HistoryError) -> JSONResponse:
        # The message names hosts and paths, so it goes to the log only.
        logger.error("request %s: %s", getattr(request.state, "request_id", ""), error)
        detail = "The result history is unavailable; see the gateway's log. Try again in a few seconds."
        return render(request, UnavailableError(detail, {"Retry-After": "5"}))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, ProblemError):  # FastAPI wraps what is raised while it reads a body
            return render(request, error.__cause__)
        status = error.status_code
        headers = {"Allow": _allowed_methods(request)} if status == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
        detail = _HINTS.get(status, error.detail)
        return render(request, ProblemError(detail, headers, status=status, title=HTTPStatus(status).phrase))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return render(request, UnprocessableError(f"{describe_validation(error.errors())}."))


def _allowed_methods(request: Request) -> str:
    """Return the methods of all routes of a path; a path without a route is a file of the page."""
    methods = {
        method
        for method in _METHODS
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    allowed = methods or {"GET"}
    return ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
