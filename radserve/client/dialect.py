"""Which of the two interfaces a URL has: a server's own, or the gateway's, which lies below /api."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Final, Literal

from radserve.client import response
from radserve.client.transport import Transport
from radserve.errors import InvalidResponseError

Api = Literal["auto", "server", "gateway"]

_GATEWAY: Final = "radserve-gateway"
_NO_ANSWER: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses of /live that say nothing about who would have answered it."""


class Interface:
    """Knows where requests go; asks /live once, and only where that was left open.

    A gateway names itself there. The supervisor, which a front passes /live on to, does not, and TorchServe has no such
    path: both speak a server's own interface. Where nobody can say, it is an error and no guess.
    """

    def __init__(self, transport: Transport, api: Api) -> None:
        self._transport = transport
        self._api = api
        self._lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """What stands before `predictions/NAME`.

        Raises
        ------
        Refused, ServerFailed, Unreachable, TimedOut, NotAnAnswer
            If it has to be asked for, and is not told.
        """
        return "api/" if self.gateway else ""

    @property
    def gateway(self) -> bool:
        """Whether it is a gateway; raises as `prefix` does."""
        with self._lock:
            if self._api == "auto":
                self._api = self._ask()
            return self._api == "gateway"

    def _ask(self) -> Literal["server", "gateway"]:
        answer = self._transport.read("live")
        status = answer.status_code
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _NO_ANSWER:
            raise response.problem(answer)
        if status == HTTPStatus.OK:
            match response.parse(answer):
                case {"service": str(service)} if service == _GATEWAY:
                    return "gateway"
                case {"state": str(_)}:
                    return "server"
        if status != HTTPStatus.NOT_FOUND:
            raise InvalidResponseError(
                f"{self._transport.url} answers /live with {status}, as neither a server nor a gateway does; check the "
                'URL, or say which it is: api="server" or "gateway" (--api).'
            )
        return "server"
