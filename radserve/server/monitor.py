"""Monitor of a running server."""

import asyncio
import logging

from radserve.server.status import ServerStatus, State
from radserve.torchserve.readiness import Problem, Readiness

logger = logging.getLogger(__name__)


async def monitor(status: ServerStatus, readiness: Readiness, period_seconds: float = 2.0) -> None:
    """Keep the status up to date with TorchServe's workers until cancelled.

    Of two successive checks the better one counts: load balancers remove an unavailable server, and TorchServe may
    merely be busy. An unavailable server must answer its samples again.
    """
    previous: Problem | None = None
    while True:
        await asyncio.sleep(period_seconds)
        current = await readiness.problem(infer=status.state is State.UNAVAILABLE)
        problem = min(previous, current, key=_severity)
        previous = current
        if problem is None:
            state, detail = State.READY, "Every worker is ready."
        else:
            state, detail = State.UNAVAILABLE if problem.fatal else State.DEGRADED, problem.detail
        if state is not status.state:
            logger.warning("%s: %s", state.value, detail)
        status.update(state, detail, problem.versions if problem else frozenset())


def _severity(problem: Problem | None) -> int:
    return 0 if problem is None else 1 + problem.fatal
