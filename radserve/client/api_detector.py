"""Detects whether a URL belongs to a server or to a gateway, whose paths begin with /api."""

import threading
from http import HTTPStatus
from typing import Final, Literal

from radserve.client import response
from radserve.client.transport import Transport
from radserve.errors import InvalidResponseError

Api = Literal["auto", "server", "gateway"]

_GATEWAY: Final = "radserve-gateway"
_INCONCLUSIVE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses of /live that do not reveal what runs behind the URL."""


class ApiDetector:
    """Knows the prefix of paths; requests /live once, before the first path, if the API is `auto`.

    A gateway names itself in /live. The supervisor does not, and TorchServe has no such path; both have the paths of a
    server. Any other response is an error, not a guess.
    """

    def __init__(self, transport: Transport, api: Api) -> None:
        self._transport = transport
        self._api = api
        self._lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """Prefix of `predictions/NAME`; raises as `is_gateway` does."""
        return "api/" if self.is_gateway else ""

    @property
    def is_gateway(self) -> bool:
        """Whether the URL belongs to a gateway; raises a ClientError if /live gives no conclusive response."""
        with self._lock:
            if self._api == "auto":
                self._api = self._detect()
            return self._api == "gateway"

    def _detect(self) -> Literal["server", "gateway"]:
        live = self._transport.request("GET", "live")
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
                f"{self._transport.where} answers /live with {status}, as neither a server nor a gateway does. Check "
                'the URL, or choose the API: api="server" or "gateway" (--api).'
            )
        return "server"
