"""Redirects a path with a trailing slash to the path of the API without it."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

_STATUS: Final = 307
"""The client repeats method and body."""


class TrailingSlash:
    """Redirects if the path without its trailing slash has a route; `otherwise` answers all other requests.

    The location is relative, because a proxy may have removed a prefix of the path, of which the gateway does not know.
    """

    def __init__(self, routes: Iterable[BaseRoute], otherwise: ASGIApp) -> None:
        self._routes = routes
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one connection that no route matches."""
        if scope["type"] != "http" or not self._has_route(scope):
            await self._otherwise(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        location = f"../{quote(_without_slash(scope['path']).rpartition('/')[2])}{'?' if query else ''}{query}"
        await Response(status_code=_STATUS, headers={"Location": location})(scope, receive, send)

    def _has_route(self, scope: Scope) -> bool:
        target = {**scope, "path": _without_slash(scope["path"])}
        return target["path"] != scope["path"] and any(
            route.matches(target)[0] is not Match.NONE for route in self._routes
        )


def _without_slash(path: str) -> str:
    return str(path.removesuffix("/"))
