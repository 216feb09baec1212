"""`/auth`: validates API keys for nginx's `auth_request`."""

from typing import Final

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from radserve.auth.key_check import Keyring, credential

AUTH: Final = Counter("radserve_auth_decisions", "Decisions of /auth, by outcome.", ["outcome"], registry=None)
"""Labels are a few fixed outcomes, never a key, an address or a path."""
ROLE: Final = "X-Role-Wanted"  # header in which the proxy sends the required role


def route(keyring: Keyring | None) -> Route:
    """Return the route; without a keyring it rejects every key.

    It responds with 204 if the key has the role in `X-Role-Wanted`, with 401 if the key is missing, unknown or
    expired, and with 403 if it lacks the role. `X-Key-Id` and `X-Key-Name` identify the key.
    """

    async def auth(request: Request) -> Response:
        key = keyring.find(credential(request.headers)) if keyring is not None else None
        if key is None:
            AUTH.labels(outcome="unauthenticated").inc()
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        allowed = request.headers.get(ROLE) in key.roles  # a StrEnum equals its text
        AUTH.labels(outcome="allowed" if allowed else "forbidden").inc()
        return Response(status_code=204 if allowed else 403, headers={"X-Key-Id": key.id, "X-Key-Name": key.name})

    return Route("/auth", auth)
