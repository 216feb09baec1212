"""`/auth`: what nginx asks the supervisor about a client's key (ngx_http_auth_request_module)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radserve.auth.keyring import Keyring

AUTH: Final = Counter("radserve_auth_decisions", "Decisions of /auth, by outcome.", ["outcome"], registry=None)
"""`AUTH.labels(outcome=...).inc()`; an outcome is one of a few fixed words. Never a key, an address or a path.
Not in `radserve.server.metrics`: the gateway reads keys here as well, and would have to carry that to Lambda."""
ROLE: Final = "X-Role-Wanted"
"""Header in which the front says what the key would be used for."""


def route(keyring: Keyring | None) -> Route:
    """Return the route; without keys nobody is let in.

    204 for a key that has the role that `X-Role-Wanted` names, 401 for none, a wrong, a revoked or an expired one,
    403 for one without the role, or where no known role is wanted. `X-Key-Id` and `X-Key-Name` say whose key it is.
    """

    async def auth(request: Request) -> Response:
        key = keyring.find(credential(request.headers)) if keyring is not None else None
        if key is None:
            AUTH.labels(outcome="unauthenticated").inc()
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        allowed = request.headers.get(ROLE) in key.roles  # a StrEnum is its text
        AUTH.labels(outcome="allowed" if allowed else "forbidden").inc()
        return Response(status_code=204 if allowed else 403, headers={"X-Key-Id": key.id, "X-Key-Name": key.name})

    return Route("/auth", auth)


def credential(headers: Mapping[str, str]) -> str:
    """Return the key that a client sent: `Authorization: Bearer KEY`, else `X-API-Key: KEY`.

    Parameters
    ----------
    headers
        By name in any case (Starlette's), or in lower case.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
