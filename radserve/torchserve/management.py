"""Client of TorchServe's management API."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx

from radserve.build.model_store import Entry
from radserve.host.run_directory import RunDirectory
from radserve.torchserve.connection import connect

_CHANGE_TIMEOUT: Final = 180.0
"""Seconds that a change may take; an unregistration waits for the end of the workers."""
SCALE_TIMEOUT: Final = 30.0
"""Seconds that a change of workers may take; TorchServe has ended workers when it responds, and starts them later."""


class Management:
    """Client of the management API on its unix socket; every method raises `httpx.HTTPError` if it fails.

    It is `httpx.TransportError` without a response, and then names the request. TorchServe may be silent for seconds.
    No change is synchronous: TorchServe would hold one of the threads that transfer predictions until it is complete.
    """

    def __init__(self, run_directory: RunDirectory, timeout: float = 5.0) -> None:
        self._client = connect(run_directory.management, timeout)

    async def describe(self, name: str, version: str) -> dict[str, Any]:
        """Return TorchServe's description of one version."""
        response = await self._send("GET", f"/models/{name}/{version}")
        response.raise_for_status()
        (model,) = response.json()
        return dict(model)

    async def register(self, entry: Entry) -> None:
        """Register a version without workers."""
        await self._change("POST", "/models", url=entry.file, initial_workers="0")

    async def scale(self, name: str, version: str, workers: int) -> None:
        """Set the number of workers; they are ready later, or never, as `describe` shows."""
        count = str(workers)
        path = f"/models/{name}/{version}"
        try:
            async with asyncio.timeout(SCALE_TIMEOUT):  # httpx limits each phase of a request
                await self._change("PUT", path, SCALE_TIMEOUT, min_worker=count, max_worker=count)
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"TorchServe's management API did not answer PUT {path}.") from error

    async def set_default(self, name: str, version: str) -> None:
        """Make a version the one that answers requests without a version."""
        await self._change("PUT", f"/models/{name}/{version}/set-default")

    async def unregister(self, name: str, version: str) -> None:
        """Unregister a version immediately; its queued requests are lost."""
        await self._change("DELETE", f"/models/{name}/{version}")

    async def get(self, path: str, query: str) -> httpx.Response:
        """Forward a GET request and return TorchServe's response."""
        return await self._send("GET", path, params=httpx.QueryParams(query))

    async def _change(self, method: str, path: str, seconds: float = _CHANGE_TIMEOUT, **query: str) -> None:
        (await self._send(method, path, params=httpx.QueryParams(query), timeout=seconds)).raise_for_status()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **options)
        except httpx.TransportError as error:
            kind = type(error)
            raise kind(f"TorchServe's management API did not answer {method} {path} ({kind.__name__}).") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def pending(model: Mapping[str, Any]) -> int:
    """Return the number of queued requests in a model's description."""
    return int(model["jobQueueStatus"]["pendingRequests"])
