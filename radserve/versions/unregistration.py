"""How a version goes: nobody is sent to it any more, what was sent is answered, and then its workers end."""

from __future__ import annotations

import asyncio
import logging

from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.deployment_state import DeploymentStateManager

logger = logging.getLogger(__name__)


class Unregistration:
    """Takes versions away.

    Parameters
    ----------
    settle
        Seconds after which no request can still be on its way to a version that the front sends none any more: it
        takes in a body as a whole after it has chosen the version.
    patience
        Seconds that requests in hand are waited for.
    """

    def __init__(self, fleet: ModelRegistry, ledger: DeploymentStateManager, *, settle: float, patience: float) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._settle = settle
        self._patience = patience
        self._tasks: dict[Pair, asyncio.Task[None]] = {}

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._tasks

    def begin(self, member: ModelVersion) -> asyncio.Task[None]:
        """Take a version away; return the task that does."""
        task = self._tasks[member.pair] = asyncio.create_task(self._go(member))
        task.add_done_callback(lambda done: self._gone(member, done))
        return task

    def _gone(self, member: ModelVersion, task: asyncio.Task[None]) -> None:
        self._tasks.pop(member.pair, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: not taken away: %r", member, task.exception())

    async def _go(self, member: ModelVersion) -> None:
        async with self._ledger.closed(member.pair):
            if self._ledger.fronted:
                await asyncio.sleep(self._settle)
            if not await self._fleet.idle(member, self._patience):
                logger.warning("%s: still busy after %g s; taken away all the same", member, self._patience)
            await self._fleet.unregister(member)
            self._ledger.forget_default(member.pair)

    async def stop(self) -> None:
        """Wait for none any more: the server stops, and drains as a whole."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
