"""Status of a server, its monitor, and the exit codes of the supervisor."""

import asyncio
import enum
import logging
from dataclasses import dataclass
from typing import Final

from radserve.torchserve.readiness import Readiness

logger = logging.getLogger(__name__)

_PERIOD: Final = 2.0  # seconds between two checks


class Exit(enum.IntEnum):
    """Exit code of the supervisor; 1 means that the server was not started."""

    STOPPED = 0
    TORCHSERVE_DIED = 3
    NOT_READY = 4
    UNFINISHED = 5
    PROXY_DIED = 6


class State(enum.Enum):
    """Phase of the server's life."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"


@dataclass
class ServerStatus:
    """Current state, and a sentence that explains it."""

    state: State = State.STARTING
    detail: str = "TorchServe is starting."

    def update(self, state: State, detail: str) -> None:
        """Replace both."""
        self.state, self.detail = state, detail


async def monitor(status: ServerStatus, readiness: Readiness, period: float = _PERIOD) -> None:
    """Keep the status up to date with TorchServe's workers until cancelled.

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
