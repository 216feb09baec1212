"""Finishing what was accepted: the end of a server, as TorchServe does not know it.

1. The door is closed: the kernel refuses new connections.
2. What was accepted is answered.
3. Clients that go on asking over connections that they keep open are answered 503 after a while;
   TorchServe closes the connection with such an answer.
4. Nothing has been in flight for a moment: TorchServe may be stopped.
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
from radserve.torchserve import launch
from radserve.torchserve.launch import Address, Management

logger = logging.getLogger(__name__)

_SETTLE: Final = 0.3
"""Seconds that TorchServe has to be seen idle before it counts as idle: longer than a request is
neither in its queue nor in a worker (on its way between the two, or back to the client)."""
_GRACE: Final = 10.0
"""Seconds before those who go on asking over open connections get 503; what was in the queue is done by then."""


class Drain:
    """Watches what TorchServe still has to do."""

    def __init__(
        self, runtime: RunDirectory, address: Address, entries: Sequence[Entry], management: Management
    ) -> None:
        self._runtime = runtime
        self._address = address
        self._entries = entries
        self._management = management

    async def run(self, pid: int, seconds: float) -> bool:
        """Finish what is in flight; return whether it was finished within `seconds`.

        Parameters
        ----------
        pid
            Of TorchServe, a child of this process.

        Raises
        ------
        httpx.HTTPError
            If TorchServe no longer says what it has to do.
        """
        await self._close_door(pid)
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
            if now - start > min(_GRACE, seconds / 2) and not self._runtime.closing.exists():
                self._runtime.closing.touch()
                logger.info("clients keep asking; they get 503 from now on")
            await asyncio.sleep(0.05)
        return False

    async def _close_door(self, pid: int) -> None:
        try:
            await asyncio.to_thread(stop_listening, pid, self._address.port)
        except OSError as error:
            logger.warning("new connections cannot be refused (%s); they are answered while they come", error.strerror)

    async def _in_flight(self) -> bool:
        if worker.is_any_busy(self._runtime.busy):
            return True
        for entry in self._entries:
            with contextlib.suppress(httpx.HTTPStatusError):
                if launch.pending(await self._management.describe(entry.name, entry.version)):
                    return True
        return False

    async def _accepted(self) -> float:
        """Count the requests that TorchServe ever accepted."""
        async with httpx.AsyncClient(timeout=5.0) as client:
            text = (await client.get(self._address.metrics_url)).text
        counts = re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(map(float, counts))
