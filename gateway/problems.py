"""Every error as problem details (RFC 9457), whoever raised it."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from gateway.errors import HistoryError, ProblemError

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_HINTS: Final = {
    404: "Nothing is at this path; /api/openapi.json lists what there is.",
    405: "This path does not take this method; /api/openapi.json lists what it takes.",
}

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class ProblemDetails(BaseModel):
    """What is wrong, and what to do about it."""

    status: int
    title: str
    detail: str
    request_id: str = ""


def response(request: Request, status: int, title: str, detail: str, headers: Any = None) -> JSONResponse:
    """Render problem details."""
    body = {"status": status, "title": title, "detail": detail, "request_id": getattr(request.state, "id", "")}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def rendered(request: Request, error: ProblemError) -> JSONResponse:
    """Render a problem."""
    return response(request, error.status, error.title, str(error), error.headers)


def install(app: FastAPI) -> None:
    """Let an application answer every error so; what nobody foresaw is `gateway.middleware`'s to answer."""

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> JSONResponse:
        return rendered(request, error)

    @app.exception_handler(HistoryError)
    async def history(request: Request, error: HistoryError) -> JSONResponse:
        logger.error("request %s: %s", getattr(request.state, "id", ""), error)  # it names hosts and paths
        detail = "The results cannot be read or changed now; the gateway's log says why. Try again in some seconds."
        return response(request, 503, "Service unavailable", detail, {"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(
            error.__cause__, ProblemError
        ):  # raised while FastAPI read a body: it says only that it could not
            return rendered(request, error.__cause__)
        status = error.status_code
        headers = {"Allow": _allowed(request)} if status == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
        return response(request, status, HTTPStatus(status).phrase, _HINTS.get(status, error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        return response(request, 422, "Unusable request", f"{where}: {first['msg']}.")


def _allowed(request: Request) -> str:
    """Return the methods of all routes that have a request's path; what has no route is a file of the page."""
    known = {
        method
        for method in _METHODS
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return ", ".join(sorted(known or {"GET", "HEAD"}))


Documented = dict[int | str, dict[str, Any]]

DOCUMENTED: Final[Documented] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    for status in (400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 429, 500, 502, 503, 504)
}
"""For the `responses` of a route; gateway.api.description adds what all routes have."""
