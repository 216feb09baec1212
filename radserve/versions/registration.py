"""Registers versions: pull, verify, preflight, start under TorchServe, run the sample. A failure leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import NotServedError, VersionFailedError
from radserve.torchserve import verified_models
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.versions import preflight
from radserve.versions.deployment_state import DeploymentStateManager

PhaseListener = Callable[[str], None]
"""Called with "pulling", "verifying" and "starting" as each phase begins."""


class Source(Protocol):
    """A store of archives that the model store does not hold yet."""

    def pull(self, name: str, version: str, target: Path) -> Entry:
        """Copy an archive into a model store; raise StoreError if that is impossible."""


class Registration:
    """Registers versions.

    Parameters
    ----------
    store
        The model store.
    source
        Archives that the model store lacks are pulled from here; None if the server has no other store.
    scratch
        Folder for the preflight check.
    threads
        Threads that a worker may use.
    timeout
        Seconds that the preflight check may take.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        deployment_state: DeploymentStateManager,
        readiness: Readiness,
        *,
        store: Path,
        source: Source | None,
        scratch: Path,
        threads: int,
        timeout: float,
    ) -> None:
        self._registry = registry
        self._deployment_state = deployment_state
        self._readiness = readiness
        self._store = store
        self._source = source
        self._scratch = scratch
        self._threads = threads
        self._timeout = timeout

    async def register(
        self, name: str, version: str, workers: int, on_phase: PhaseListener = lambda _: None
    ) -> ModelVersion:
        """Register a version; requests can name it once it has answered its sample.

        Raises
        ------
        RadServeError
            If the archive is unavailable or invalid, or does not start or answer its sample.
        """
        on_phase("pulling")
        await self._pull(name, version)
        on_phase("verifying")
        (model,) = await asyncio.to_thread(verified_models.select, self._store, [f"{name}/{version}"])
        await preflight.check(model, self._store, self._scratch, self._threads, self._timeout)
        on_phase("starting")
        async with self._deployment_state.closed((name, version)):
            model_version = await self._registry.register(model, workers)
            try:
                await self.verify_sample(model_version)
            except BaseException:
                await asyncio.shield(self._registry.unregister(model_version))
                raise
        return model_version

    async def _pull(self, name: str, version: str) -> None:
        if model_store.read(self._store).find(name, version) is not None:
            return
        if self._source is None:
            raise NotServedError(
                f"{name} {version}: not in the model store {self._store}, and the server has no other store. Start it "
                "with --store URL, or build or pull the archive into the model store."
            )
        await asyncio.to_thread(self._source.pull, name, version, self._store)

    async def verify_sample(self, model_version: ModelVersion) -> None:
        """Check that a version answers its sample as it did when it was built.

        Raises
        ------
        VersionFailedError
            If it has no ready worker, or answers differently.
        """
        await self._registry.refresh()
        current = self._registry.get(*model_version.pair)
        if current is None or current.ready == 0:
            raise VersionFailedError(f"{model_version}: no worker is ready.")
        problem = await self._readiness.sample_problem(model_version)
        if problem:
            raise VersionFailedError(problem)
