"""Sends calls to a server or gateway, and detects once which of both it is."""

import asyncio
import threading
from typing import Any, Literal, TypeVar

from radserve.client.api_detector import Api, detect
from radserve.client.call import Call
from radserve.client.transport import AsyncTransport, Transport
from radserve.errors import InvalidCallError

T = TypeVar("T")


class Connection:
    """Connection of a `Client`; threads share it and its detection."""

    def __init__(self, transport: Transport, api: Api) -> None:
        self.transport = transport
        self._api = api
        self._lock = threading.Lock()

    def send(self, call: Call[T]) -> T:
        """Send a call and read its response; raises ClientErrors."""
        path = _path(call, self._detected(), self.transport.where)
        return call.parse(self.transport.request(call.method, path, repeat=call.repeat, **call.options))

    def _detected(self) -> Literal["server", "gateway"]:
        with self._lock:
            if self._api == "auto":
                self._api = detect(self.transport.request("GET", "live"), self.transport.where)
            return self._api


class AsyncConnection:
    """Connection of an `AsyncClient`; tasks share it and its detection."""

    def __init__(self, transport: AsyncTransport, api: Api) -> None:
        self.transport = transport
        self._api = api
        self._lock = asyncio.Lock()

    async def send(self, call: Call[T]) -> T:
        """Send a call and read its response; raises ClientErrors."""
        path = _path(call, await self._detected(), self.transport.where)
        return call.parse(await self.transport.request(call.method, path, repeat=call.repeat, **call.options))

    async def _detected(self) -> Literal["server", "gateway"]:
        async with self._lock:
            if self._api == "auto":
                self._api = detect(await self.transport.request("GET", "live"), self.transport.where)
            return self._api


def _path(call: Call[Any], api: Literal["server", "gateway"], where: str) -> str:
    path = call.gateway if api == "gateway" else call.server
    if path is None:
        raise InvalidCallError(
            f"{where} is not a gateway, and only a gateway has history and uploads. Start one with 'radserve serve "
            "--with-gateway'."
        )
    return path
