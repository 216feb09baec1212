"""Applies changes of the deployment state: records each, then updates TorchServe's defaults and the proxy's tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import httpx

from radserve.errors import ChangeError, RadServeError
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.audit_log import Actor, AuditLog
from radserve.versions.storage import State, StateFolder, main_version
from radserve.versions.traffic_routing import TrafficRouter

logger = logging.getLogger(__name__)

SERVER = Actor("server")
"""The actor of changes that no user requested."""


class DeploymentStateManager:
    """Commits changes of the deployment state, one at a time for each model.

    Attributes
    ----------
    audit
        The log of all changes.
    """

    def __init__(self, registry: ModelRegistry, folder: StateFolder, router: TrafficRouter) -> None:
        self._registry = registry
        self._folder = folder
        self._router = router
        self._initial = initial_deployment(registry)
        self._defaults: dict[str, str] = {}
        self._synchronizing = asyncio.Lock()
        self.audit = AuditLog(folder.path)

    @property
    def state(self) -> State:
        """The state that a restart would restore."""
        return self._folder.state

    @property
    def deployment(self) -> Deployment:
        """The declared deployment; before the first change, the one that the options started."""
        return self.state.deployment or self._initial

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy runs in front of this server, so that traffic can be split."""
        return self._router.has_proxy

    def lock(self) -> None:
        """Lock the state for this server; see `StateFolder.lock`."""
        self._folder.lock()

    def release(self) -> None:
        """Unlock the state for another server."""
        self._folder.release()

    async def commit(
        self,
        change: Callable[[State], State],
        actor: Actor,
        action: str,
        detail: str,
        model_version: ModelVersion | None = None,
        *,
        model: str = "",
        version: str | None = None,
        act_first: bool = False,
    ) -> None:
        """Record a change of one model, then apply it; a change that fails is reverted, which is recorded as well.

        A cancelled caller is cancelled only after the change is complete.

        Parameters
        ----------
        change
            Maps the state, whose deployment is set, to the next one.
        detail
            What happens, as the rest of a sentence that begins with model and version.
        model_version
            The version; or give `model` and `version` if TorchServe does not hold it.
        act_first
            Apply a safety measure even if it cannot be recorded, and do not revert it.

        Raises
        ------
        ChangeError
            If it cannot be recorded or applied.
        """
        if model_version is not None:
            model, version = model_version.pair
        sha256 = model_version.entry.sha256 if model_version else None
        sentence = f"{model} {version}: {detail}." if version else f"{model}: {detail}."

        def record(actor: Actor, text: str) -> None:
            self.audit.write(actor, action, text, model=model, version=version, sha256=sha256)

        apply = self._act if act_first else self._commit
        task = asyncio.ensure_future(apply(change, model, actor, sentence, record))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _commit(
        self,
        change: Callable[[State], State],
        model: str,
        actor: Actor,
        sentence: str,
        record: Callable[[Actor, str], None],
    ) -> None:
        self.lock()
        record(actor, sentence)
        before = self.state.model_copy(update={"deployment": self.deployment})
        self._folder.write(change(before))
        try:
            await self.synchronize()
        except (httpx.HTTPError, RadServeError, OSError) as error:
            record(SERVER, f"{sentence} Failed and reverted: {error}")
            self._folder.write(self.state.reverted(before, model))
            await self.synchronize()
            raise ChangeError(f"{sentence} Failed and reverted: {error}") from error
        _log(sentence, actor)

    async def _act(
        self,
        change: Callable[[State], State],
        _: str,
        actor: Actor,
        sentence: str,
        record: Callable[[Actor, str], None],
    ) -> None:
        self._folder.state = change(self.state.model_copy(update={"deployment": self.deployment}))
        try:
            await self.synchronize()
        except (httpx.HTTPError, RadServeError, OSError):
            logger.exception("%s TorchServe or the proxy was not updated", sentence)
        try:
            self.lock()
            record(actor, sentence)
            self._folder.write(self.state)
        except RadServeError:
            logger.exception("%s In effect, but not recorded", sentence)
        _log(sentence, actor)

    async def synchronize(self) -> None:
        """Set TorchServe's default versions and the proxy's tables to the declared state.

        Raises
        ------
        httpx.HTTPError, OSError
            If TorchServe fails, or a table cannot be written.
        """
        async with self._synchronizing:
            for name, model in self.deployment.models.items():
                main = main_version(model.versions)
                model_version = self._registry.get(name, main)
                if model_version is not None and self._defaults.get(name) != main:
                    await self._registry.make_default(model_version)
                    self._defaults[name] = main
            # After a restart, the candidate of a rollout gets traffic only once it is registered and verified again.
            registered = {
                name: rollout
                for name, rollout in self.state.rollouts.items()
                if self._registry.get(name, rollout.plan.version) is not None
            }
            self._router.write(self.deployment, registered)

    @asynccontextmanager
    async def closed(self, pair: Pair) -> AsyncIterator[None]:
        """Reject requests that name this version, if a proxy runs in front of this server."""
        self._router.close(pair)
        await self.synchronize()
        try:
            yield
        finally:
            self._router.reopen(pair)
            await self.synchronize()

    def forget_default(self, pair: Pair) -> None:
        """Forget that an unregistered version was TorchServe's default."""
        if self._defaults.get(pair[0]) == pair[1]:
            del self._defaults[pair[0]]


def _log(sentence: str, actor: Actor) -> None:
    logger.info("%s (%s%s)", sentence, actor.name, f": {actor.reason}" if actor.reason else "")


def initial_deployment(model_versions: Iterable[ModelVersion]) -> Deployment:
    """Return the deployment of a server that its options started: the newest version of a model has all requests.

    Parameters
    ----------
    model_versions
        The oldest version of each model first.
    """
    models: dict[str, dict[str, DeployedVersion]] = {}
    for item in model_versions:
        versions = models.setdefault(item.entry.name, {})
        for key, served in versions.items():
            versions[key] = served.model_copy(update={"share": 0.0})
        versions[item.entry.version] = DeployedVersion(share=100.0, workers=item.workers)
    return Deployment(models={name: DeployedModel(versions=versions) for name, versions in models.items()})
