"""Rejects changes of versions where the engine cannot make them."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from radserve.versions.request_parsing import problem

_DETAIL = (
    "The engine of this server (--engine ray) has no rollouts and no management API: it serves only the versions with "
    "which it started. To change them, restart the server with --engine torchserve."
)


class ReadOnly:
    """Middleware that responds with 501 to all changes, and to TorchServe's management API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or reject it."""
        request = Request(scope)
        path = request.url.path
        reads = request.method in ("GET", "HEAD") or (request.method, path) == ("POST", "/deployment/diff")
        rejected = not reads or path.startswith("/models")
        app = problem(501, "Not implemented", _DETAIL) if rejected else self._app
        await app(scope, receive, send)
