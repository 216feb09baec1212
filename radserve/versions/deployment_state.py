"""Applies changes of the deployment state: records each, then updates TorchServe's defaults and the proxy's tables."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx

from radserve.build.model_store import order
from radserve.errors import ChangeError, RadServeError
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.traffic_split import Routing
from radserve.schema.control import AuditEntry
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.audit_log import Actor, AuditLog
from radserve.versions.server_state import RolloutRecord, State, StateFolder, main_version

logger = logging.getLogger(__name__)

SERVER = Actor("server")  # the actor of changes that no user requested


class DeploymentStateManager:
    """Commits changes of the deployment state, one at a time for each model; `audit` is the log of all of them."""

    def __init__(self, registry: ModelRegistry, folder: StateFolder, run_directory: RunDirectory) -> None:
        self._registry = registry
        self._run_directory = run_directory
        self._initial = initial_deployment(registry)
        self._defaults: dict[str, str] = {}
        self._closed: set[Pair] = set()
        self._synchronizing = asyncio.Lock()
        self.folder = folder
        self.audit = AuditLog(folder.path)

    @property
    def state(self) -> State:
        """The state that a restart would restore."""
        return self.folder.state

    @property
    def deployment(self) -> Deployment:
        """The declared deployment; before the first change, the one that the options started."""
        return self.state.deployment or self._initial

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy runs in front of this server, so that traffic can be split."""
        return proxy_running(self._run_directory)

    async def commit(
        self,
        change: Callable[[State], State],
        actor: Actor,
        action: str,
        detail: str,
        subject: ModelVersion | tuple[str, str | None],
        *,
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
        subject
            The version; or name and version if TorchServe does not hold it, or the change concerns several.
        act_first
            Apply a safety measure even if it cannot be recorded, and do not revert it.
        """
        model, version = subject.pair if isinstance(subject, ModelVersion) else subject
        entry = AuditEntry(
            time=datetime.now(UTC),
            actor=actor.name,
            action=action,
            model=model,
            version=version,
            sha256=subject.entry.sha256 if isinstance(subject, ModelVersion) else None,
            reason=actor.reason,
            detail=f"{model} {version}: {detail}." if version else f"{model}: {detail}.",
        )

        async def apply() -> None:
            await (self._act(change, entry) if act_first else self._commit(change, model, entry))
            logger.info("%s (%s%s)", entry.detail, actor.name, f": {actor.reason}" if actor.reason else "")

        task = asyncio.ensure_future(apply())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _commit(self, change: Callable[[State], State], model: str, entry: AuditEntry) -> None:
        self.folder.lock()
        self.audit.write(entry)
        before = self.state.model_copy(update={"deployment": self.deployment})
        self.folder.write(change(before))
        try:
            await self.synchronize()
        except (httpx.HTTPError, RadServeError, OSError) as error:
            failure = f"{entry.detail} Failed and reverted: {error}"
            reverted = {"time": datetime.now(UTC), "actor": SERVER.name, "reason": SERVER.reason, "detail": failure}
            self.audit.write(entry.model_copy(update=reverted))
            self.folder.write(self.state.reverted(before, model))
            await self.synchronize()
            raise ChangeError(failure) from error

    async def _act(self, change: Callable[[State], State], entry: AuditEntry) -> None:
        self.folder.state = change(self.state.model_copy(update={"deployment": self.deployment}))
        try:
            await self.synchronize()
        except (httpx.HTTPError, RadServeError, OSError):
            logger.exception("%s TorchServe or the proxy was not updated", entry.detail)
        try:
            self.folder.lock()
            self.audit.write(entry)
            self.folder.write(self.state)
        except RadServeError:
            logger.exception("%s In effect, but not recorded", entry.detail)

    async def synchronize(self) -> None:
        """Set TorchServe's default versions and the proxy's tables; raises httpx.HTTPError, OSError if that fails."""
        async with self._synchronizing:
            for name, model in self.deployment.models.items():
                main = main_version(model.versions)
                model_version = self._registry.get(name, main)
                if model_version is not None and self._defaults.get(name) != main:
                    await self._registry.make_default(model_version)
                    self._defaults[name] = main
            # After a restart, the candidate of a rollout gets traffic only once it is registered and verified again.
            rollouts = {
                name: rollout
                for name, rollout in self.state.rollouts.items()
                if self._registry.get(name, rollout.plan.version) is not None
                and (name, rollout.plan.version) not in self._closed
            }
            traffic_split.write(routing(self.deployment, rollouts, self._closed), self._run_directory)

    @asynccontextmanager
    async def closed(self, pair: Pair) -> AsyncIterator[None]:
        """Reject requests that name this version, if a proxy runs in front of this server."""
        self._closed.add(pair)
        await self.synchronize()
        try:
            yield
        finally:
            self._closed.discard(pair)
            await self.synchronize()

    def forget_default(self, pair: Pair) -> None:
        """Forget that an unregistered version was TorchServe's default."""
        if self._defaults.get(pair[0]) == pair[1]:
            del self._defaults[pair[0]]


def initial_deployment(model_versions: Iterable[ModelVersion]) -> Deployment:
    """Return the deployment that the options started: the newest version of a model, the last one, has all requests."""
    models: dict[str, dict[str, DeployedVersion]] = {}
    for item in model_versions:
        versions = models.setdefault(item.entry.name, {})
        for key, served in versions.items():
            versions[key] = served.model_copy(update={"share": 0.0})
        versions[item.entry.version] = DeployedVersion(share=100.0, workers=item.workers)
    return Deployment(models={name: DeployedModel(versions=versions) for name, versions in models.items()})


def routing(deployment: Deployment, rollouts: Mapping[str, RolloutRecord], closed: Collection[Pair]) -> Routing:
    """Return the proxy's tables for a state."""
    shares: dict[str, Mapping[str, float]] = {}
    for name, model in deployment.models.items():
        # The newest version first: it keeps its clients when its share grows.
        newest_first = sorted(model.versions, key=order, reverse=True)
        split = {
            version: model.versions[version].share for version in newest_first if model.versions[version].share > 0
        }
        if split:
            shares[name] = split
    shadow: dict[str, float] = {}
    for name, rollout in rollouts.items():
        if rollout.step is None:
            continue
        if rollout.plan.shadow is not None:
            shares[name], shadow[name] = {rollout.before: 100.0}, rollout.plan.shadow
        else:
            share = rollout.plan.steps[rollout.step]
            shares[name] = {rollout.plan.version: share, rollout.before: 100.0 - share}
    return Routing(shares, shadow, frozenset(closed))
