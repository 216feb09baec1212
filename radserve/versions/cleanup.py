"""Removes what failed changes have left in TorchServe: excess workers, and versions that nothing declares."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import httpx

from radserve.errors import RadServeError
from radserve.host.background import observe
from radserve.torchserve.registry import ModelRegistry, Pair
from radserve.versions.change_lock import ChangeLock
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.scaling import Scaling
from radserve.versions.unregistration import Unregistration

_PAUSE: Final = 30.0
"""Seconds between attempts to end workers; each holds the model's requests back."""


@dataclass
class Cleanup:
    """Brings versions back to their declaration after changes that failed; what is as declared stays unchanged."""

    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    unregistration: Unregistration
    scaling: Scaling
    lock: ChangeLock
    _tasks: dict[Pair, asyncio.Task[None]] = field(default_factory=dict, init=False)

    @property
    def problems(self) -> list[str]:
        """The versions that a failed change may have left otherwise than declared."""
        return [f"{name} {version}: a failed change has not been cleaned up yet." for name, version in self._tasks]

    async def run(self, pair: Pair) -> None:
        """Clean up at once, for a caller that holds the model's lock; if that fails, try again in the background."""
        if not await self._clean(pair):
            self.start(pair, _PAUSE)

    def start(self, pair: Pair, delay: float = 0.0) -> None:
        """Clean up in the background, once no other change of the model is in progress."""
        if pair not in self._tasks and self.lock.accepts_changes:
            self._tasks[pair] = observe(asyncio.create_task(self._repeat(pair, delay)), "cleanup of a failed change")

    async def _repeat(self, pair: Pair, delay: float) -> None:
        try:
            done = False
            while not done:
                await asyncio.sleep(delay)
                async with self.lock.of(pair[0]):
                    done = await self._clean(pair)
                delay = _PAUSE
        finally:
            del self._tasks[pair]

    async def _clean(self, pair: Pair) -> bool:
        """Return whether the version is as declared, or being unregistered."""
        current, declared = self.registry.get(*pair), self.deployment_state.deployment.find(*pair)
        if current is None or pair in self.unregistration or self._in_rollout(pair):
            return True
        if declared is None:
            self.unregistration.start(current)
            return True
        if declared.workers is None or current.workers <= declared.workers:
            return True
        try:
            await self.scaling.scale(current, declared.workers)
        except (RadServeError, httpx.HTTPError, OSError):
            return False
        return True

    def _in_rollout(self, pair: Pair) -> bool:
        rollout = self.deployment_state.state.rollouts.get(pair[0])
        return rollout is not None and rollout.plan.version == pair[1]

    async def stop(self) -> None:
        """Cancel pending attempts."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
