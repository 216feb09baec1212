"""CORS: pages of other origins that may use the API, and why others may not."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import problems
from gateway.errors import NotAllowedError

_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_HEADERS: Final = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Inference-Header-Content-Length",
    "X-API-Key",
    "X-Assurances",
    "X-Repair",
    "X-Client-Id",
    "X-Filename",
    "X-Request-Id",
)
_EXPOSED: Final = (
    "Content-Disposition",
    "Inference-Header-Content-Length",
    "Retry-After",
    "X-Domain",
    "X-Repair",
    "X-Request-Id",
    "X-Result-Id",
)
_MAX_AGE: Final = 600
"""Seconds for which browsers remember a permission."""


class CrossOrigin:
    """Allows pages of `origins` to use the API; a preflight request of another page gets 403 and the reason.

    Cookies are not allowed: the page's code sends keys and tokens itself.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=list(origins),
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=_EXPOSED,
            max_age=_MAX_AGE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "origin" not in headers:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(Request(scope))(scope, receive, send)
        elif self._cors.is_allowed_origin(headers["origin"]):
            await self._cors(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _preflight(self, request: Request) -> Response:
        response = self._cors.preflight_response(request.headers)
        if response.status_code < 400:
            return response
        origin = request.headers["origin"]
        if not self._cors.is_allowed_origin(origin):
            reason = f"Pages of {origin!r} may not use this API; add the origin to RADSERVE_GATEWAY_ORIGINS."
        else:
            reason = f"Pages may use the methods {', '.join(_METHODS)} and the headers {', '.join(_HEADERS)} only."
        allowed = {name: value for name, value in response.headers.items() if name.startswith("access-control")}
        return problems.render(request, NotAllowedError(reason, allowed))
