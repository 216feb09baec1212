"""Readiness of a server or gateway."""

from dataclasses import dataclass

import httpx

from radserve.client import response
from radserve.client.transport import parse_url
from radserve.errors import InvalidResponseError


@dataclass(frozen=True)
class Readiness:
    """Whether requests would be answered, as a supervisor or gateway reports it; false unless `ready`."""

    ready: bool
    state: str
    detail: str

    def __bool__(self) -> bool:
        return self.ready


def url(base: str, health_url: str | None) -> httpx.URL:
    """Return the URL of /ready; raises InvalidCallError."""
    ready = parse_url(health_url or f"{base.rstrip('/')}/ready")
    return ready if ready.path.endswith("/ready") else ready.join("/ready")


def parse(reply: httpx.Response) -> Readiness:
    """Read the response of /ready; raises InvalidResponseError."""
    match reply.status_code, response.parse(reply):
        case 200 | 503, {"state": str(state), "detail": str(detail)}:
            return Readiness(reply.is_success, state, detail)
    raise InvalidResponseError(f"{reply.url} is not RadServe's /ready; use the port of --health-port.")
