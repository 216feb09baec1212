"""Sends calls to a server or gateway, and detects once which of both it is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, TypeVar

import httpx

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

    @contextmanager
    def stream(self, call: Call[Any]) -> Iterator[httpx.Response]:
        """Send a call, whose response is read as it arrives; raises ClientErrors."""
        path = _path(call, self._detected(), self.transport.where)
        with self.transport.stream(call.method, path, **call.options) as reply:
            yield reply

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

    @asynccontextmanager
    async def stream(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        """Send a call, whose response is read as it arrives; raises ClientErrors."""
        path = _path(call, await self._detected(), self.transport.where)
        async with self.transport.stream(call.method, path, **call.options) as reply:
            yield reply

    async def _detected(self) -> Literal["server", "gateway"]:
        async with self._lock:
            if self._api == "auto":
                self._api = detect(await self.transport.request("GET", "live"), self.transport.where)
            return self._api


def _path(call: Call[Any], api: Literal["server", "gateway"], where: str) -> str:
    path = call.gateway if api == "gateway" else call.server
    if path is None:
        raise InvalidCallError(
            f"{where} is not a gateway, and only a gateway has history, uploads and streams. Start one with 'radserve "
            "serve --with-gateway'."
        )
    return path
