"""Unregisters versions: stops their traffic, waits for requests in progress, then ends their workers."""

from __future__ import annotations

import asyncio
import logging

from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.deployment_state import DeploymentStateManager

logger = logging.getLogger(__name__)


class Unregistration:
    """Unregisters versions in the background.

    Parameters
    ----------
    settle
        Seconds until no request can be on its way from the proxy to a closed version: the proxy chooses the version
        before it receives the body.
    patience
        Seconds to wait for requests in progress.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        deployment_state: DeploymentStateManager,
        *,
        settle: float,
        patience: float,
    ) -> None:
        self._registry = registry
        self._deployment_state = deployment_state
        self._settle = settle
        self._patience = patience
        self._tasks: dict[Pair, asyncio.Task[None]] = {}

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._tasks

    def start(self, model_version: ModelVersion) -> asyncio.Task[None]:
        """Start to unregister a version; return the task that does."""
        task = self._tasks[model_version.pair] = asyncio.create_task(self._unregister(model_version))

        def on_done(task: asyncio.Task[None]) -> None:
            self._tasks.pop(model_version.pair, None)
            if not task.cancelled() and task.exception() is not None:
                logger.error("%s: not unregistered: %r", model_version, task.exception())

        task.add_done_callback(on_done)
        return task

    async def _unregister(self, model_version: ModelVersion) -> None:
        async with self._deployment_state.closed(model_version.pair):
            if self._deployment_state.has_proxy:
                await asyncio.sleep(self._settle)
            if not await self._registry.idle(model_version, self._patience):
                logger.warning("%s: still busy after %g s; unregistered anyway", model_version, self._patience)
            await self._registry.unregister(model_version)
            self._deployment_state.forget_default(model_version.pair)

    async def stop(self) -> None:
        """Cancel pending unregistrations, since the whole server stops and drains."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
