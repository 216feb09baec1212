"""Shutdown of the server after SIGTERM or SIGINT, without losing an accepted request.

1. /ready responds with 503; rollouts and changes of versions stop.
2. The drain delay passes, in which load balancers notice and requests are still answered.
3. nginx stops accepting connections and finishes its requests.
   nginx in another process answers new requests with 503 from now on.
4. TorchServe finishes its requests. After a grace period, requests that still arrive, because their bodies were in
   transit through such an nginx, get 503.
5. Once TorchServe has been idle for a moment, it may be stopped.
"""

import asyncio
import contextlib
import logging
import re
import time
from typing import Final

import httpx

from handlers import worker
from radserve.server.components import Components
from radserve.server.status import Exit, State
from radserve.torchserve import management
from radserve.torchserve.connection import connect

logger = logging.getLogger(__name__)

_SETTLE: Final = 0.3
"""Seconds without activity after which TorchServe counts as idle. A request is neither queued nor in a worker for a
shorter time, on its way between the two and back to the client."""
_GRACE: Final = 10.0
"""Seconds until clients on open connections get 503; requests that were queued at the start are done by then."""


async def shut_down(server: Components) -> Exit:
    """Finish the requests in flight, and return the exit code; TorchServe still runs afterwards."""
    opened = server.status.state is not State.STARTING
    server.status.update(State.DRAINING, "Stopping: requests in flight are being finished.")
    logger.info("draining")
    await server.rollouts.stop()
    await server.versions.stop()
    if opened:
        await asyncio.sleep(server.options.drain_delay)
    try:
        finished = await _finish_requests(server, drain_torchserve=opened)
    except httpx.HTTPError as error:
        logger.error("the engine does not respond while draining: %r", error)  # noqa: TRY400 - not a fault of this code
        return Exit.TORCHSERVE_DIED
    if not finished:
        logger.error("requests still in flight after %g s; stopping anyway", server.options.drain_timeout)
        return Exit.UNFINISHED
    logger.info("drained")
    return Exit.STOPPED


async def _finish_requests(server: Components, *, drain_torchserve: bool) -> bool:
    """Drain nginx, then TorchServe unless it was never open, within the drain timeout."""
    seconds = server.options.drain_timeout
    finished = True
    if server.proxy is not None:
        start = time.monotonic()
        finished = await server.proxy.drain(seconds)
        # At least a second: TorchServe is idle by now, but that takes a moment to observe.
        seconds = max(1.0, seconds - (time.monotonic() - start))
    server.run_directory.ready.unlink(missing_ok=True)  # a proxy in another process answers 503 from now on
    return finished and (not drain_torchserve or await _drain_torchserve(server, seconds))


async def _drain_torchserve(server: Components, seconds: float) -> bool:
    """Finish the requests of TorchServe; return False if some remain after `seconds`."""
    start = time.monotonic()
    idle_since: float | None = None
    accepted = -1.0
    while (now := time.monotonic()) - start < seconds:
        before = accepted
        try:
            accepted = await _accepted(server)
            active = await _in_flight(server) or accepted != before
        except httpx.ReadTimeout:  # not dead, but busy, for example with a garbage collection
            active = True
        if active:
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since >= _SETTLE:
            return True
        if now - start > min(_GRACE, seconds / 2) and not server.run_directory.closing.exists():
            server.run_directory.closing.touch()
            logger.info("clients still send requests over open connections; answering 503 from now on")
        await asyncio.sleep(0.05)
    return False


async def _in_flight(server: Components) -> bool:
    if worker.is_any_busy(server.run_directory.busy):
        return True
    for version in server.registry:
        with contextlib.suppress(httpx.HTTPStatusError):
            if management.pending(await server.management.describe(*version.pair)):
                return True
    return False


async def _accepted(server: Components) -> float:
    """Return the number of requests that TorchServe has accepted since its start."""
    async with connect(server.run_directory.metrics, timeout=5.0) as client:
        text = (await client.get("/metrics")).text
    return sum(map(float, re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", text, re.MULTILINE)))
