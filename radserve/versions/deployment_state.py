"""Applies changes of the deployment state: records each, then updates TorchServe's defaults and the proxy's tables.

A safety measure takes effect first. What could not be updated or recorded is tried again until it succeeds.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import Counter, Gauge

from radserve.build.model_store import order
from radserve.errors import ChangeError, RadServeError
from radserve.host.background import observe
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.proxy import traffic_split
from radserve.proxy.traffic_split import Routing
from radserve.schema.control import AuditEntry
from radserve.schema.deployment import DeployedModel, DeployedVersion, Deployment
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import quarantine
from radserve.versions.audit_log import Actor, AuditLog
from radserve.versions.stored_state import RolloutRecord, State, StateFolder, main_version

logger = logging.getLogger(__name__)

SERVER = Actor("server")  # the actor of changes that no user requested
FAILURES: Final = Counter(
    "radserve_state_failures_total",
    "Failed attempts to put a safety measure into effect or to store it.",
    registry=None,
)
PENDING: Final = Gauge(
    "radserve_state_pending", "1 while a change of the versions is not in effect or not stored.", registry=None
)
_RETRY_SECONDS: Final = 1.0

_Change = Callable[[State], State]


async def _no_effect() -> None:
    pass


class DeploymentStateManager:
    """Commits changes of the deployment state, one at a time for each model; `audit` is the log of all of them.

    `problem` says what is not in effect or not stored at present; that is tried again in the background.
    """

    def __init__(self, registry: ModelRegistry, folder: StateFolder, run_directory: RunDirectory, store: Path) -> None:
        self._registry = registry
        self._store = store
        # Models whose quarantine the index may lack: digests to mark, and versions to release.
        self._unmarked: dict[str, tuple[set[str], set[str]]] = {}
        self._marking = asyncio.Lock()
        self._commits: list[tuple[str, list[_Change]]] = []  # in progress: model, and safety measures meanwhile
        self.rollbacks: defaultdict[str, int] = defaultdict(int)  # safety measures of each model so far
        self._run_directory = run_directory
        self._initial = initial_deployment(registry)
        self._defaults: dict[str, str] = {}
        self._closed: set[Pair] = set()
        self._synchronizing = asyncio.Lock()
        self._unrecorded: deque[AuditEntry] = deque()  # safety measures in effect
        self._retries: asyncio.Task[None] | None = None
        self.problem: str | None = None
        self.folder = folder
        self.audit = AuditLog(folder.path)
        self.audit.check()

    @property
    def problems(self) -> list[str]:
        """What an operator should know, although predictions are not affected."""
        return [problem for problem in (self.problem, self.audit.problem) if problem is not None]

    @property
    def state(self) -> State:
        """The state in effect."""
        return self.folder.state

    @property
    def deployment(self) -> Deployment:
        """The declared deployment; before the first change, the one that the options started."""
        return self.state.deployment or self._initial

    @property
    def _declared(self) -> State:
        """The state in effect, whose deployment is set."""
        return self.state.model_copy(update={"deployment": self.deployment})

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy runs in front of this server, so that traffic can be split."""
        return proxy_running(self._run_directory)

    async def commit(
        self,
        change: _Change,
        actor: Actor,
        action: str,
        detail: str,
        subject: ModelVersion | tuple[str, str | None],
        *,
        require: Callable[[], object] = lambda: None,
        act_first: bool = False,
        effect: Callable[[], Awaitable[object]] = _no_effect,
        effect_first: bool = False,
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
        require
            Raises ConflictError if the state does not admit the change, immediately before it is made.
        act_first
            Apply a safety measure at once, even if it cannot be recorded, and do not revert it. A ChangeError means
            that TorchServe or the proxy was not updated; that is tried again in the background.
        effect
            What else the change does, after it was stored; it undoes itself if it fails.
        effect_first
            Store the change only after its effect. The caller undoes the effect if that fails.
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
            require()
            if not act_first:
                await self._commit(change, model, entry, effect, effect_first=effect_first)
            elif problem := await self._act(change, entry, lasting=True):
                raise ChangeError(f"{entry.detail} Not in effect yet, tried again: {problem}")
            level = logging.WARNING if act_first else logging.INFO
            logger.log(level, "%s (%s%s)", entry.detail, actor.name, f": {actor.reason}" if actor.reason else "")

        task = asyncio.ensure_future(apply())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _commit(
        self,
        change: _Change,
        model: str,
        entry: AuditEntry,
        effect: Callable[[], Awaitable[object]],
        *,
        effect_first: bool,
    ) -> None:
        self.record()
        self.audit.write(entry)
        before = self._declared
        measures: list[_Change] = []
        self._commits.append((model, measures))
        try:
            if effect_first:
                await effect()
            self.folder.write(change(self._declared))
            await self.synchronize()
            if not effect_first:
                await effect()
        except Exception as error:
            failure = f"{entry.detail} Failed and reverted: {error}"
            reverted = {"time": datetime.now(UTC), "actor": SERVER.name, "reason": SERVER.reason, "detail": failure}
            await self._act(
                lambda state: reduce(lambda state, measure: measure(state), measures, state.reverted(before, model)),
                entry.model_copy(update=reverted),
            )
            if not isinstance(error, httpx.HTTPError | RadServeError | OSError):
                raise
            raise (type(error) if isinstance(error, ChangeError) else ChangeError)(failure) from error
        finally:
            self._commits = [commit for commit in self._commits if commit[1] is not measures]
        self._replay_after_reverting(model, change)
        served = {version for version, item in before.versions(model).items() if item.share > 0}
        released = {key for key, item in self.state.versions(model).items() if item.share > 0} - served
        self._request_marks(model, released=released)
        await self._enforce()

    def _replay_after_reverting(self, model: str, change: _Change) -> None:
        """Make a change again if another one of the model, which is in progress, fails and is reverted."""
        for measures in (measures for name, measures in self._commits if name == model):
            measures.append(change)

    async def _act(self, change: _Change, entry: AuditEntry, *, lasting: bool = False) -> str | None:
        """Change the state and put it into effect, then store it; return why it is not in effect, or None.

        A commit in progress that fails does not revert a `lasting` change.
        """
        before = self.state.quarantine
        self.folder.state = change(self._declared)
        if lasting and entry.model is not None:
            self.rollbacks[entry.model] += 1
            self._replay_after_reverting(entry.model, change)
        self._unrecorded.append(entry)
        if entry.model is not None:
            self._request_marks(entry.model, {item.sha256 for item in self.state.quarantine if item not in before})
        return await self._enforce()

    def _request_marks(self, model: str, added: Collection[str] = (), released: Collection[str] = ()) -> None:
        digests, versions = self._unmarked.setdefault(model, (set(), set()))
        digests.update(added)
        versions.update(released)

    async def lift_mark(self, name: str, version: str) -> None:
        """Remove the mark of a version from the model store's index, unless the state has it in quarantine."""
        self._request_marks(name, released={version})
        await self._enforce()

    async def _mark(self) -> None:
        """Show in the model store's index what is in quarantine."""
        async with self._marking:  # an earlier state must not be written after a later one
            while self._unmarked:
                name, (added, released) = self._unmarked.popitem()
                try:
                    await asyncio.to_thread(quarantine.mark, self.state, self._store, name, added, released)
                except BaseException:
                    self._request_marks(name, added, released)
                    raise

    async def _enforce(self) -> str | None:
        """Put the state into effect and store it, or try again in the background; return why it is not in effect."""
        ineffective = unsaved = unmarked = None
        with suppress(Exception):  # reported below
            self._write_tables()
        try:  # before TorchServe, which may take its time
            if self._unrecorded or not self.folder.saved:
                self.record()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and tried again
            unsaved = f"A change is in effect but not stored, and a restart would undo it: {error}"
        try:
            await self.synchronize()
        except Exception as error:  # noqa: BLE001
            ineffective = f"TorchServe or the proxy was not updated: {error!r}"
        try:
            await self._mark()
        except Exception as error:  # noqa: BLE001
            unmarked = f"The model store's index does not show what is in quarantine: {error}"
        problem = ineffective or unsaved or unmarked
        if problem is not None:
            FAILURES.inc()
            if self.problem is None:
                logger.error("%s (tried again every %g s)", problem, _RETRY_SECONDS)
            if self._retries is None or self._retries.done():
                self._retries = observe(asyncio.create_task(self._retry()), "storing of changes")
        self.problem = problem
        PENDING.set(problem is not None)
        return ineffective

    async def _retry(self) -> None:
        while self.problem is not None:
            await asyncio.sleep(_RETRY_SECONDS)
            await self._enforce()
        logger.info("every change is in effect and stored")

    def record(self) -> None:
        """Lock the folder, and record the safety measures that are in effect; raises ChangeError."""
        self.folder.lock()
        while self._unrecorded:
            self.audit.write(self._unrecorded[0])
            self._unrecorded.popleft()
        if not self.folder.saved:
            self.folder.write(self.state)

    async def synchronize(self) -> None:
        """Set the proxy's tables and TorchServe's default versions; raises httpx.HTTPError, OSError if that fails."""
        self._write_tables()  # at once, because TorchServe may take its time
        async with self._synchronizing:
            models = self.deployment.models
            for name in self._without_default():
                main = main_version(models[name].versions)
                model_version = self._registry.get(name, main)
                if model_version is not None:
                    await self._registry.make_default(model_version)
                    self._defaults[name] = main

    def _without_default(self) -> set[str]:
        """Return the models whose main version is not known to be TorchServe's default."""
        models = self.deployment.models
        return {name for name in models if self._defaults.get(name) != main_version(models[name].versions)}

    def _write_tables(self) -> None:
        # After a restart, the candidate of a rollout gets traffic only once it is registered and verified again.
        rollouts = {
            name: rollout
            for name, rollout in self.state.rollouts.items()
            if self._registry.get(name, rollout.plan.version) is not None
            and (name, rollout.plan.version) not in self._closed
        }
        tables = routing(self.deployment, rollouts, self._closed)
        tables = replace(tables, registered=frozenset(item.pair for item in self._registry))
        try:
            traffic_split.write(tables, self._run_directory)
        except OSError:
            # Not even a full disk keeps requests on a version that should not get them.
            traffic_split.clear(self._run_directory)
            raise

    @asynccontextmanager
    async def closed(self, pair: Pair) -> AsyncIterator[None]:
        """Reject requests that name this version, if a proxy runs in front of this server."""
        self._closed.add(pair)
        try:
            self._write_tables()
            yield
        finally:
            self._closed.discard(pair)
            await self._enforce()

    def reopen(self, pair: Pair) -> None:
        """Accept requests that name a version again, from the next update of the proxy's tables."""
        self._closed.discard(pair)

    def forget_default(self, pair: Pair) -> None:
        """Forget that an unregistered version was TorchServe's default."""
        if self._defaults.get(pair[0]) == pair[1]:
            del self._defaults[pair[0]]

    async def stop(self) -> None:
        """Stop the attempts in the background, and release the folder."""
        if self._retries is not None:
            self._retries.cancel()
            await asyncio.gather(self._retries, return_exceptions=True)
        if self.problem is not None:
            logger.error("stopping with changes pending: %s", self.problem)
        self.folder.release()


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
