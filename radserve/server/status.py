"""Status of a server, and the exit codes of the supervisor."""

import enum
from dataclasses import dataclass

from radserve.torchserve.registry import ModelVersion, Pair


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
    """Current state, and a sentence that explains it; `versions` are the only ones that it concerns, empty for all."""

    state: State = State.STARTING
    detail: str = "TorchServe is starting."
    versions: frozenset[Pair] = frozenset()

    def update(self, state: State, detail: str, versions: frozenset[Pair] = frozenset()) -> None:
        """Replace all."""
        self.state, self.detail, self.versions = state, detail, versions

    def is_ready(self, version: ModelVersion) -> bool:
        """Return whether a version has a worker, and the server is not unavailable because of it."""
        if self.state in (State.STARTING, State.DRAINING):
            return False
        is_concerned = not self.versions or version.pair in self.versions
        return version.ready > 0 and not (self.state is State.UNAVAILABLE and is_concerned)
