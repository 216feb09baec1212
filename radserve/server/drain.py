"""Drain of TorchServe: finish every accepted request before it is stopped.

1. Close the listening socket: the kernel refuses new connections.
2. Wait for the requests in flight.
3. After a grace period, answer 503 to clients that keep sending requests over open connections; TorchServe closes the
   connection after such a response.
4. Once TorchServe has been idle for a moment, it may be stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Final

import httpx

from handlers import worker
from radserve.build.model_store import Entry
from radserve.host.listening_socket import stop_listening
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import management as torchserve
from radserve.torchserve.launch import Address
from radserve.torchserve.management import Management

logger = logging.getLogger(__name__)

_SETTLE: Final = 0.3
"""Seconds without activity after which TorchServe counts as idle. A request is neither queued nor in a worker for a
shorter time, on its way between the two and back to the client."""
_GRACE: Final = 10.0
"""Seconds until clients on open connections get 503; requests that were queued at the start are done by then."""


class Drain:
    """Waits until TorchServe has no requests left."""

    def __init__(
        self, run_directory: RunDirectory, address: Address, entries: Sequence[Entry], management: Management
    ) -> None:
        self._run_directory = run_directory
        self._address = address
        self._entries = entries
        self._management = management

    async def run(self, pid: int, seconds: float) -> bool:
        """Finish the requests in flight; return False if some remain after `seconds`.

        Parameters
        ----------
        pid
            Process id of TorchServe, a child of this process.

        Raises
        ------
        httpx.HTTPError
            If TorchServe does not respond.
        """
        await self._close_listening_socket(pid)
        start = time.monotonic()
        idle_since: float | None = None
        accepted = -1.0
        while (now := time.monotonic()) - start < seconds:
            before, accepted = accepted, await self._accepted()
            if await self._in_flight() or accepted != before:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since >= _SETTLE:
                return True
            if now - start > min(_GRACE, seconds / 2) and not self._run_directory.closing.exists():
                self._run_directory.closing.touch()
                logger.info("clients still send requests over open connections; answering 503 from now on")
            await asyncio.sleep(0.05)
        return False

    async def _close_listening_socket(self, pid: int) -> None:
        try:
            await asyncio.to_thread(stop_listening, pid, self._address.port)
        except OSError as error:
            logger.warning("cannot close the listening socket (%s); new requests are still answered", error.strerror)

    async def _in_flight(self) -> bool:
        if worker.is_any_busy(self._run_directory.busy):
            return True
        for entry in self._entries:
            with contextlib.suppress(httpx.HTTPStatusError):
                if torchserve.pending(await self._management.describe(entry.name, entry.version)):
                    return True
        return False

    async def _accepted(self) -> float:
        """Return the number of requests that TorchServe has accepted since its start."""
        async with httpx.AsyncClient(timeout=5.0) as client:
            text = (await client.get(self._address.metrics_url)).text
        counts = re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(map(float, counts))
