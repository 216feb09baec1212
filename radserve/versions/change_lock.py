"""Excludes changes of a model from each other, from rollouts, and while the server starts or stops."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import httpx

from radserve.errors import ChangeError, ConflictError, NotReadyError
from radserve.versions.deployment_state import DeploymentStateManager


@dataclass
class ChangeLock:
    """Admits one change of a model at a time; a change that is not admitted raises ChangeError."""

    deployment_state: DeploymentStateManager
    accepts_changes: bool = field(default=False, init=False)  # False until the server is ready, and when it stops
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), init=False)

    def of(self, name: str) -> asyncio.Lock:
        """Return the lock of a model."""
        return self._locks[name]

    @asynccontextmanager
    async def exclusive_change(
        self, name: str, *, by_rollout: bool = False, recorded: bool = True
    ) -> AsyncIterator[Callable[[], None]]:
        """Exclude other changes of a model, and reject this one during a rollout unless the rollout makes it.

        A rollback does not wait: the function that is returned rejects the change if there was one meanwhile.

        A change that must be `recorded` first is rejected if the state folder cannot be used.
        """
        self.require_accepting()
        if recorded:
            self.deployment_state.record()
        require = self.no_rollback_from_now(name)
        async with self.of(name):
            self.require_accepting()  # the server may have stopped meanwhile
            if not by_rollout:
                self.require_no_rollout(name)
            with change_errors(name):
                yield require

    def no_rollback_from_now(self, name: str) -> Callable[[], None]:
        """Return a function that raises ConflictError if the model was rolled back meanwhile."""
        rollbacks = self.deployment_state.rollbacks
        before = rollbacks[name]

        def require() -> None:
            if rollbacks[name] != before:
                raise ConflictError(f"{name}: it was rolled back meanwhile; nothing was changed.")

        return require

    def require_accepting(self) -> None:
        """Reject changes while the server starts or stops."""
        if not self.accepts_changes:
            raise NotReadyError("The server is starting or stopping and accepts no changes; try again later.")

    def require_no_rollout(self, name: str) -> None:
        """Reject changes of a model during a rollout."""
        rollout = self.deployment_state.state.rollouts.get(name)
        if rollout is not None:
            raise ConflictError(
                f"{name}: a rollout of {rollout.plan.version} is in progress; abort it first "
                f"('radserve rollout {name} --abort')."
            )


@contextmanager
def change_errors(name: str) -> Iterator[None]:
    """Turn an error of TorchServe or of the system into one of the change."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ChangeError(f"{name}: TorchServe failed to make the change: {error}") from error
    except OSError as error:  # a full run directory, for example
        raise ChangeError(f"{name}: the server failed to make the change: {error}.") from error
