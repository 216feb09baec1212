"""Detects whether a URL belongs to a server or to a gateway, whose paths begin with /api."""

from http import HTTPStatus
from typing import Final, Literal

import httpx

from radserve.client import response
from radserve.errors import InvalidResponseError

Api = Literal["auto", "server", "gateway"]

_GATEWAY: Final = "radserve-gateway"
_INCONCLUSIVE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses of /live that do not reveal what runs behind the URL."""


def detect(live: httpx.Response, where: str) -> Literal["server", "gateway"]:
    """Return what answers /live this way; raises a ClientError if the response is inconclusive.

    A gateway names itself in /live. The supervisor does not, and TorchServe has no such path; both have the paths of a
    server. Any other response is an error, not a guess.
    """
    status = live.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _INCONCLUSIVE:
        raise response.problem(live)
    if status == HTTPStatus.OK:
        match response.parse(live):
            case {"service": str(service)} if service == _GATEWAY:
                return "gateway"
            case {"state": str(_)}:
                return "server"
    if status != HTTPStatus.NOT_FOUND:
        raise InvalidResponseError(
            f"{where} answers /live with {status}, as neither a server nor a gateway does. Check the URL, or choose "
            'the API: api="server" or "gateway" (--api).'
        )
    return "server"
