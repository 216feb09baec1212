"""Monitor of a running server."""

import asyncio
import logging

from radserve.server.status import ServerStatus, State
from radserve.torchserve.readiness import Readiness

logger = logging.getLogger(__name__)


async def monitor(status: ServerStatus, readiness: Readiness, period_seconds: float = 2.0) -> None:
    """Keep the status up to date with TorchServe's workers until cancelled.

    A problem counts only when two successive checks see one: load balancers remove a degraded server, and TorchServe's
    management API may merely be busy.
    """
    previous: str | None = None
    while True:
        await asyncio.sleep(period_seconds)
        current = await readiness.problem(infer=False)
        problem = current if previous is not None else None
        previous = current
        state = State.READY if problem is None else State.DEGRADED
        if state is not status.state:
            logger.warning("%s: %s", state.value, problem or "all workers are back")
        status.update(state, problem or "Every worker is ready.")
