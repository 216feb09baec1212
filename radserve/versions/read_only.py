"""Rejects changes of versions where the engine serves those of its start only."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from radserve.versions.request_parsing import problem

_DETAIL = (
    "The engine of this server (--engine ray) has no rollouts and no management API: it serves the versions of its "
    "start. Restart it with other --models, or with --engine torchserve."
)


class ReadOnly:
    """Middleware that responds with 501 to all changes, and to TorchServe's management API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or reject it."""
        request = Request(scope)
        rejected = request.method != "GET" or request.url.path.startswith("/models")
        app = problem(501, "Not implemented", _DETAIL) if rejected else self._app
        await app(scope, receive, send)
