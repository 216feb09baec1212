"""How a version comes in: pulled, verified, tried, registered, asked its sample. Nothing is left of one that fails."""

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
from radserve.torchserve.verified_models import VerifiedModel
from radserve.versions import preflight
from radserve.versions.deployment_state import DeploymentStateManager


class Source(Protocol):
    """Where archives come from that the model store does not hold yet."""

    def pull(self, name: str, version: str, target: Path) -> Entry:
        """Bring an archive into a model store; raise StoreError if that is impossible."""


class Registration:
    """Brings versions in.

    Parameters
    ----------
    store
        The model store.
    scratch
        Folder for what is tried.
    threads
        That a worker may use.
    patience
        Seconds until an archive that is tried must have answered its sample.
    """

    def __init__(
        self,
        fleet: ModelRegistry,
        ledger: DeploymentStateManager,
        readiness: Readiness,
        *,
        store: Path,
        source: Source | None,
        scratch: Path,
        threads: int,
        patience: float,
    ) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._readiness = readiness
        self._store = store
        self._source = source
        self._scratch = scratch
        self._threads = threads
        self._patience = patience

    async def bring(
        self, name: str, version: str, workers: int, told: Callable[[str], None] = lambda _: None
    ) -> ModelVersion:
        """Bring a version in; clients can ask it by its path once it has answered its sample.

        Parameters
        ----------
        told
            Called with "pulling", "verifying" and "starting" as each begins.

        Raises
        ------
        RadServeError
            If it cannot be had, or does not do what it should.
        """
        told("pulling")
        await self._have(name, version)
        told("verifying")
        found = await asyncio.to_thread(self._verified, name, version)
        await preflight.check(found, self._store, self._scratch, self._threads, self._patience)
        told("starting")
        async with self._ledger.closed((name, version)):
            member = await self._fleet.register(found, workers)
            try:
                await self.require_answers(member)
            except BaseException:
                await asyncio.shield(self._fleet.unregister(member))
                raise
        return member

    async def _have(self, name: str, version: str) -> None:
        """Pull an archive that the model store does not hold."""
        if model_store.read(self._store).find(name, version) is not None:
            return
        if self._source is None:
            raise NotServedError(
                f"{name} {version}: not in the model store {self._store}, and the server has no store to pull it "
                "from. Start it with --store URL, or build or pull it there."
            )
        await asyncio.to_thread(self._source.pull, name, version, self._store)

    def _verified(self, name: str, version: str) -> VerifiedModel:
        (found,) = verified_models.select(self._store, [f"{name}/{version}"])
        return found

    async def require_answers(self, member: ModelVersion) -> None:
        """Ask a version its sample.

        Raises
        ------
        Failed
            If it has no worker, or does not answer as it did when it was built.
        """
        await self._fleet.refresh()
        found = self._fleet.get(*member.pair)
        if found is None or found.ready == 0:
            raise VersionFailedError(f"{member}: none of its workers is ready.")
        wrong = await self._readiness.sample_problem(member)
        if wrong:
            raise VersionFailedError(wrong)
