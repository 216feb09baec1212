"""Unregisters versions: stops their traffic, waits for requests in progress, then ends their workers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import httpx

from radserve.errors import ChangeError
from radserve.host.background import observe
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.deployment_state import DeploymentStateManager

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 2.0
_MAX_ATTEMPT: Final = 30.0
"""Seconds for which `cancel` waits for TorchServe's response to an unregistration."""


@dataclass
class Unregistration:
    """Unregisters versions in the background.

    It waits `settle` seconds until no request can be on its way from the proxy to a closed version: the proxy chooses
    the version before it receives the body. Then it waits up to `patience` seconds for requests in progress; clients
    do not wait longer for a response. It tries again until TorchServe has unregistered the version, which stays closed
    to clients meanwhile.
    """

    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    settle: float
    patience: float
    _tasks: dict[Pair, asyncio.Task[None]] = field(default_factory=dict, init=False)
    # Set at the end of an attempt; while there is one, TorchServe may have ended the workers.
    _attempts: dict[Pair, asyncio.Event] = field(default_factory=dict, init=False)

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._tasks

    def start(self, model_version: ModelVersion) -> asyncio.Task[None]:
        """Start to unregister a version, unless that is in progress; return the task that does."""
        if model_version.pair in self._tasks:
            return self._tasks[model_version.pair]
        task = observe(asyncio.create_task(self._unregister(model_version)), "unregistration")
        self._tasks[model_version.pair] = task
        task.add_done_callback(lambda task: self._forget(model_version.pair, task))
        return task

    def _forget(self, pair: Pair, task: asyncio.Task[None]) -> None:
        if self._tasks.get(pair) is task:
            del self._tasks[pair]
            self._end_attempt(pair)

    def _end_attempt(self, pair: Pair) -> None:
        if attempt := self._attempts.pop(pair, None):
            attempt.set()

    async def cancel(self, pair: Pair) -> bool:
        """Keep a version that is being unregistered; return False if none is, or after TorchServe has ended it.

        Raises ChangeError if TorchServe does not say whether it has ended it.
        """
        try:
            async with asyncio.timeout(_MAX_ATTEMPT):
                while attempt := self._attempts.get(pair):
                    await attempt.wait()
        except TimeoutError as error:
            raise ChangeError(f"{pair[0]} {pair[1]}: TorchServe is unregistering it and does not respond.") from error
        task = self._tasks.get(pair)
        if task is None:
            return False
        task.cancel()
        self._forget(pair, task)
        self.deployment_state.routes.reopen(pair)
        return True

    async def _unregister(self, model_version: ModelVersion) -> None:
        async with self.deployment_state.reopened_after(model_version.pair):
            await self._persist(self._close, model_version)
            await asyncio.sleep(self.settle)
            await self._persist(self._end, model_version)
            self.deployment_state.routes.forget_default(model_version.pair)

    async def _persist(self, step: Callable[[ModelVersion], Awaitable[None]], model_version: ModelVersion) -> None:
        while True:
            try:
                return await step(model_version)
            except (httpx.HTTPError, ChangeError, OSError) as error:
                logger.error("%s: not unregistered, tried again: %r", model_version, error)  # noqa: TRY400 - complete
            await asyncio.sleep(_RETRY_SECONDS)

    async def _close(self, model_version: ModelVersion) -> None:
        self.deployment_state.close(model_version.pair)

    async def _end(self, model_version: ModelVersion) -> None:
        try:
            if not await self.registry.idle(model_version, self.patience):
                logger.warning(
                    "%s: busy for %g s, longer than clients wait; unregistered", model_version, self.patience
                )
            self._attempts.setdefault(model_version.pair, asyncio.Event())
            await self.registry.unregister(model_version)
        except (httpx.HTTPError, ChangeError) as error:
            if isinstance(error, httpx.HTTPStatusError) or await self._holds(model_version):
                self._end_attempt(model_version.pair)
            raise

    async def _holds(self, model_version: ModelVersion) -> bool:
        """Return whether TorchServe certainly holds a version; without a response, it may have ended it."""
        try:
            return await self.registry.holds(model_version)
        except (httpx.HTTPError, ChangeError):
            return False

    async def stop(self) -> None:
        """Cancel pending unregistrations, since the whole server stops and drains."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
