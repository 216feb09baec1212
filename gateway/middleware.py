"""What holds for every request: its id, the bounds of its body, the headers of its answer, a line in the log."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.errors import ContentTooLargeError, ProblemError, RequestTimeoutError
from gateway.metrics import REQUESTS, SECONDS

logger = logging.getLogger("gateway.access")

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_QUIET: Final = ("/live", "/ready", "/metrics")
_FAULT: Final = "The gateway failed; its log says why, by the request's id."
_LEFT: Final = 499
"""Status in log and metrics (nginx's) of a request whose client did not wait."""
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # holds for no-cors requests only: origins that CORS allows may ask
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS: Final = "max-age=31536000"
"""Where the request came by https: next time, too. Subdomains are not ours to decide about."""
CORS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "POST", "PUT", "DELETE"),
    "allow_headers": (
        "Accept",
        "Authorization",
        "Content-Type",
        "X-API-Key",
        "X-Client-Id",
        "X-Filename",
        "X-Request-Id",
    ),
    "expose_headers": ("Content-Disposition", "Retry-After", "X-Request-Id"),
    "allow_credentials": False,  # keys and tokens are sent by the page's own code, never by the browser
    "max_age": 600,
}
_PIECE: Final = 30.0
"""Seconds between two pieces of a body."""
_WHOLE: Final = 600.0
"""Seconds for all of it."""


class RequestContext:
    """Gives each request an id and each answer the headers that protect whoever looks at it; counts and logs it.

    Of a request the log has method, path, status and seconds: neither query, headers nor body, which hold keys, names
    and images.

    Parameters
    ----------
    storage
        Origin that the page may send uploads to; none if empty.
    """

    def __init__(self, app: ASGIApp, storage: str = "") -> None:
        self._app = app
        own = "connect-src 'self'"
        self._security = {
            name: value.replace(own, f"{own} {storage}") if storage else value for name, value in SECURITY.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        identity = sent if _ID.fullmatch(sent) else secrets.token_hex(16)
        scope.setdefault("state", {})["id"] = identity
        begin, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._security.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", HSTS)
                headers["X-Request-Id"] = identity
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = status or _LEFT  # its body never became complete
        except Exception:  # whatever it is: logged whole, and the client gets an answer with its request's id
            logger.exception("request %s failed", identity)
            if status:  # a part of the answer is sent: breaking off keeps it from being taken for the whole
                raise
            await problems.response(Request(scope), 500, ProblemError.title, _FAULT)(scope, receive, answer)
        finally:
            self._tell(scope, status or 500, time.perf_counter() - begin, identity)

    @staticmethod
    def _tell(scope: Scope, status: int, seconds: float, identity: str) -> None:
        route = getattr(scope.get("route"), "path", "other")
        REQUESTS.labels(route=route, method=_method(scope), status=str(status)).inc()
        SECONDS.labels(route=route).observe(seconds)
        if scope["path"] not in _QUIET or status >= 400:
            caller = scope["state"].get("caller", "")
            said = (_method(scope), scope["path"][:200], status, seconds, caller, identity)
            logger.info("%s %s %d in %.3f s, %s, request %s", *said)


class BodySizeLimit:
    """Refuses a body as soon as it is longer, or takes longer, than is taken.

    Parameters
    ----------
    piece, whole
        Seconds between two pieces of a body, and for all of it.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, way_out: str, piece: float = _PIECE, whole: float = _WHOLE
    ) -> None:
        self._app = app
        self._max = max_bytes
        self._piece = piece
        self._whole = whole
        self._said = f"The body is longer than the {max_bytes} bytes that are taken here. {way_out}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._max:
            too_long = problems.response(Request(scope), 413, ContentTooLargeError.title, self._said)
            await too_long(scope, receive, send)
            return
        taken, complete, latest = 0, False, time.monotonic() + self._whole

        async def bounded() -> Message:
            nonlocal taken, complete
            if complete:
                return await receive()  # until the client leaves
            try:
                async with asyncio.timeout(min(self._piece, latest - time.monotonic())):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeoutError("The body did not come in time.", {"Connection": "close"}) from error
            complete = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > self._max:
                raise ContentTooLargeError(self._said)
            return message

        await self._app(scope, bounded, send)


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
