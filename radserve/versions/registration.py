"""Registers versions: pull, verify, preflight, start under TorchServe, run the sample. A failure is undone."""

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from handlers.errors import RecipeError
from handlers.profile import VerifiedProfile
from radserve.build import model_store
from radserve.build.model_store import Entry
from radserve.errors import ChangeError, ConflictError, NotServedError, ServeError, VersionFailedError
from radserve.torchserve import verified_models
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion
from radserve.versions import preflight
from radserve.versions.deployment_state import DeploymentStateManager

logger = logging.getLogger(__name__)

PhaseListener = Callable[[str, Entry | None], None]
"""Called with "pulling", "verifying" and "starting" as each phase begins, and the archive's entry once it is known."""


class Source(Protocol):
    """A store of archives that the model store does not hold yet."""

    def pull(self, name: str, version: str, target: Path) -> object:
        """Copy an archive into a model store; raise StoreError if that is impossible."""


@dataclass
class Registration:
    """Registers versions."""

    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    readiness: Readiness
    store: Path
    source: Source | None  # of the archives that the model store lacks
    models: Path  # folder of the unpacked archives
    threads: int  # that a worker may use
    timeout: float  # seconds that the preflight check may take, and that workers have at least for their start
    python: str = sys.executable  # starts workers
    profiles: Sequence[VerifiedProfile] = ()  # of the site; a version without one is served as shipped

    async def register(
        self, name: str, version: str, workers: int, on_phase: PhaseListener = lambda *_: None
    ) -> ModelVersion:
        """Register a version; requests can name it once it has answered its sample."""
        on_phase("pulling", None)
        on_phase("verifying", await self._pull(name, version))
        (model,) = await asyncio.to_thread(verified_models.select, self.store, [f"{name}/{version}"])
        async with self._unpacked(model.entry) as folder:
            await preflight.check(model, folder, self.store, self.threads, self.timeout, self.python)
            try:
                model = verified_models.with_profile(model, self.profiles)
            except (ServeError, RecipeError) as error:
                raise VersionFailedError(str(error)) from error
            if model.profile is None and any(item.profile.model == name for item in self.profiles):
                logger.warning("%s %s has no site profile, but another version of %s has", name, version, name)
            on_phase("starting", model.entry)
            async with self.deployment_state.closed((name, version)):
                model_version = await self.registry.register(model, workers)
                try:
                    await self.verify_sample(model_version)
                except BaseException:
                    await asyncio.shield(self.registry.unregister(model_version))
                    raise
        return model_version

    def require_profile(self, name: str, version: str, before: str) -> None:
        """Raise ConflictError if `before` has a site profile, and `version`, which is to replace it, has none."""
        fitted = {(item.profile.model, item.profile.version) for item in self.profiles}
        if (name, before) in fitted and (name, version) not in fitted:
            raise ConflictError(
                f"{name} {version} has no site profile, but {before} has one: results would silently change. Fit one "
                "with 'radserve calibrate --site', and restart the server with both profiles."
            )

    @asynccontextmanager
    async def _unpacked(self, entry: Entry) -> AsyncIterator[Path]:
        """Unpack an archive, and remove its folder if the registration fails or is cancelled."""
        unpacking = asyncio.create_task(
            asyncio.to_thread(verified_models.unpack, entry, self.store, self.models, self.timeout)
        )
        try:
            try:
                folder = await asyncio.shield(unpacking)
            except ServeError as error:
                raise ChangeError(str(error)) from error
            yield folder
        except BaseException:
            await asyncio.gather(unpacking, return_exceptions=True)
            await asyncio.to_thread(shutil.rmtree, self.models / entry.file, ignore_errors=True)
            raise

    async def _pull(self, name: str, version: str) -> Entry | None:
        entry = model_store.read(self.store).find(name, version)
        if entry is not None:
            return entry
        if self.source is None:
            raise NotServedError(
                f"{name} {version}: not in the model store {self.store}, and the server has no other store. Start it "
                "with --store URL, or build or pull the archive into the model store."
            )
        await asyncio.to_thread(self.source.pull, name, version, self.store)
        return model_store.read(self.store).find(name, version)

    async def verify_sample(self, model_version: ModelVersion) -> None:
        """Check that a version answers its sample as it did when it was built; else raise VersionFailedError."""
        if await self.registry.count_ready(model_version) == 0:
            raise VersionFailedError(f"{model_version}: no worker is ready.")
        await self.verify_response(model_version)

    async def verify_response(self, model_version: ModelVersion) -> None:
        """Check the same without TorchServe's management API, which may be silent; needs a ready worker."""
        try:
            problem = await self.readiness.sample_problem(model_version)
        except httpx.TransportError as error:
            path = model_version.model.path
            raise ChangeError(f"{model_version}: no response to its sample, POST {path} ({error!r}).") from error
        if problem:
            raise VersionFailedError(problem)
