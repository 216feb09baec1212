"""Status of a server, and the exit codes of the supervisor."""

import enum
from dataclasses import dataclass


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
    DEGRADED = "degraded"  # every model answers, but a part fails
    UNAVAILABLE = "unavailable"  # a model cannot answer
    DRAINING = "draining"

    @property
    def answers(self) -> bool:
        """Whether load balancers should send requests."""
        return self in (State.READY, State.DEGRADED)


@dataclass
class ServerStatus:
    """Current state, and a sentence that explains it."""

    state: State = State.STARTING
    detail: str = "TorchServe is starting."

    def update(self, state: State, detail: str) -> None:
        """Replace both."""
        self.state, self.detail = state, detail
