"""Shutdown of the server after SIGTERM or SIGINT, without losing an accepted request.

1. /ready responds with 503; rollouts and changes of versions stop.
2. The drain delay passes, in which load balancers notice and requests are still answered.
3. nginx stops accepting connections and finishes its requests.
4. TorchServe stops accepting connections and finishes its requests (`radserve.server.drain`).
"""

from __future__ import annotations

import asyncio
import logging
import time

import httpx

from radserve.server.composition import Components
from radserve.server.drain import Drain
from radserve.server.status import Exit, State

logger = logging.getLogger(__name__)


async def shut_down(server: Components, pid: int) -> Exit:
    """Finish the requests in flight, and return the exit code; the processes still run afterwards.

    Parameters
    ----------
    pid
        Process id of TorchServe.
    """
    server.status.update(State.DRAINING, "Stopping: requests in flight are being finished.")
    logger.info("draining")
    await server.rollouts.stop()
    await server.versions.stop()
    await asyncio.sleep(server.options.drain_delay)
    try:
        finished = await _finish_requests(server, pid)
    except httpx.HTTPError as error:
        logger.error("TorchServe does not respond while draining: %r", error)  # noqa: TRY400 - not a fault of this code
        return Exit.TORCHSERVE_DIED
    if not finished:
        logger.error("requests still in flight after %g s; stopping anyway", server.options.drain_timeout)
        return Exit.UNFINISHED
    logger.info("drained")
    return Exit.STOPPED


async def _finish_requests(server: Components, pid: int) -> bool:
    """Drain nginx, then TorchServe, within the drain timeout."""
    seconds = server.options.drain_timeout
    finished = True
    if server.proxy is not None:
        start = time.monotonic()
        finished = await server.proxy.drain(seconds)
        # At least a second: TorchServe is idle by now, but that takes a moment to observe.
        seconds = max(1.0, seconds - (time.monotonic() - start))
    server.run_directory.ready.unlink(missing_ok=True)  # a proxy in another process answers 503 from now on
    entries = [version.entry for version in server.registry]
    drain = Drain(server.run_directory, server.options.address, entries, server.management)
    return finished and await drain.run(pid, seconds)
