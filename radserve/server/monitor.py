"""Monitor of a running server: keeps its state up to date with TorchServe's workers."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from radserve.server.status import ServerStatus, State
from radserve.torchserve.readiness import Readiness

logger = logging.getLogger(__name__)

PERIOD: Final = 2.0
"""Seconds between two checks."""


async def monitor(status: ServerStatus, readiness: Readiness, period: float = PERIOD) -> None:
    """Switch between ready and degraded until cancelled.

    A problem counts only when two successive checks see one: load balancers remove a degraded server, and TorchServe's
    management API may merely be busy.
    """
    previous: str | None = None
    while True:
        await asyncio.sleep(period)
        current = await readiness.problem(infer=False)
        problem = current if previous is not None else None
        previous = current
        state = State.READY if problem is None else State.DEGRADED
        if state is not status.state:
            logger.warning("%s: %s", state.value, problem or "all workers are back")
        status.update(state, problem or "Every worker is ready.")
