"""ASGI middleware: request ids, security headers, access log, metrics, traces, HEAD, and limits of the request body."""

import asyncio
import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import problems
from gateway.errors import ContentTooLargeError, ProblemError, RequestTimeoutError
from gateway.metrics import REQUESTS, SECONDS
from radserve.tracing import Tracer, traceparent

logger = logging.getLogger("gateway.access")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PROBES: Final = ("/live", "/ready", "/v2/health/live", "/v2/health/ready")
"""Paths that are requested all the time: 200 is logged only after another status, and 503 only once in succession."""
_QUIET: Final = ("/auth", "/metrics")
"""Paths that are requested all the time, and logged only if they fail."""
_API: Final = ("/api/", "/v2")
"""Paths of the API, as distinct from files of the page."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_CLOSED: Final = 499
"""Status in log and metrics (nginx's) of a request whose client disconnected."""
_CONNECT: Final = "connect-src 'self'"
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    f"{_CONNECT}; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # affects no-cors requests only, not origins that CORS allows
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HSTS: Final = "max-age=31536000"
"""Sent over https; without includeSubDomains, because other services may share the domain."""
_CHUNK_SECONDS: Final = 30.0
_BODY_SECONDS: Final = 600.0


class RequestContext:
    """Assigns request ids, adds security headers, logs, counts and traces requests, and renders unexpected exceptions.

    The log holds method, path, status, seconds and caller: neither query, headers nor body, because these contain keys,
    names and images. Probes are logged when their status changes, scrapes when they fail. The page may send uploads to
    the origin `storage`. Only requests to the API are traced, except probes.
    """

    def __init__(self, app: ASGIApp, storage: str = "", tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or Tracer()
        self._probe_status: dict[str, int] = {}
        connect = f"{_CONNECT} {storage}" if storage else _CONNECT
        self._headers = {name: value.replace(_CONNECT, connect) for name, value in SECURITY_HEADERS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_id = Headers(scope=scope).get("x-request-id", "")
        request_id = client_id if _REQUEST_ID.fullmatch(client_id) else secrets.token_hex(16)
        is_traced = scope["path"].startswith(_API) and scope["path"] not in _PROBES
        span = self._tracer.start("gateway", Headers(scope=scope)) if is_traced else None
        scope.setdefault("state", {}).update(request_id=request_id, traceparent=traceparent(span))
        start, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(scope, MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or _CLIENT_CLOSED
        except Exception:  # any bug: logged with its traceback, rendered without
            logger.exception("request %s failed", request_id)
            if status:  # abort, so that the client does not take a partial response for a complete one
                raise
            error = ProblemError(f"The gateway failed; its log has the details of request {request_id}.")
            await problems.render(Request(scope), error)(scope, receive, send_with_headers)
        finally:
            status = scope["state"].get("stream_status", status) or 500  # of a stream that ends with an error
            method, route = self._record(scope, status, time.perf_counter() - start)
            self._tracer.end(span, status, {"http.request.method": method, "http.route": route})

    def _add_headers(self, scope: Scope, headers: MutableHeaders, request_id: str) -> None:
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        if scope["scheme"] == "https":
            headers.setdefault("Strict-Transport-Security", HSTS)
        headers["X-Request-Id"] = request_id
        if scope["path"].startswith(_API):
            headers.setdefault("Cache-Control", "no-store")

    def _record(self, scope: Scope, status: int, seconds: float) -> tuple[str, str]:
        """Count and log a request; return its method and route, without any text that a client chose."""
        route = getattr(scope.get("route"), "path_format", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        REQUESTS.labels(route=route, method=method, status=str(status)).inc()
        SECONDS.labels(route=route).observe(seconds)
        if self._is_logged(scope["path"], status):
            caller, request_id = scope["state"].get("caller", "-"), scope["state"]["request_id"]
            values = (method, scope["path"][:200], status, seconds, caller, request_id)
            logger.info("%s %s %d in %.3f s, %s, request %s", *values)
        return method, route

    def _is_logged(self, path: str, status: int) -> bool:
        if path in _PROBES:
            previous, self._probe_status[path] = self._probe_status.get(path, 200), status
            return status != previous or status not in (200, 503)
        return path not in _QUIET or status >= 400


class BodySizeLimit:
    """Rejects request bodies that are too large or arrive too slowly; `advice` tells the caller how to send less.

    The time limits hold between two chunks, and for the whole body.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        advice: str,
        chunk_seconds: float = _CHUNK_SECONDS,
        body_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._chunk_seconds = chunk_seconds
        self._body_seconds = body_seconds
        self._too_large = f"The body exceeds the limit of {max_bytes} bytes. {advice}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self._max_bytes:
            await problems.render(Request(scope), ContentTooLargeError(self._too_large))(scope, receive, send)
            return
        size, complete, deadline = 0, False, time.monotonic() + self._body_seconds

        async def receive_limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # waits for the client to disconnect
            try:
                async with asyncio.timeout(min(self._chunk_seconds, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeoutError("The body did not arrive in time.", {"Connection": "close"}) from error
            complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise ContentTooLargeError(self._too_large)
            return message

        await self._app(scope, receive_limited, send)


class _HeadComplete(Exception):  # noqa: N818 - not an error
    """Ends a response after its header."""


class HeadRequests:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2); a stream, such as an export, is not produced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_content(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            if message.get("more_body", False):
                raise _HeadComplete

        # A copy: the server must still see HEAD when it compares Content-Length with the body.
        inner = dict(scope, method="GET")
        try:
            await self._app(inner, receive, send_without_content)
        except _HeadComplete:
            pass
        finally:
            scope["route"] = inner.get("route")  # for log and metrics
