"""Applies changes of the deployment state: records each, then updates TorchServe's defaults and the proxy's tables.

A safety measure takes effect first. What could not be updated or recorded is tried again until it succeeds.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import Counter, Gauge

from radserve.errors import ChangeError, RadServeError
from radserve.host.background import observe
from radserve.host.run_directory import RunDirectory, proxy_running
from radserve.schema.control import AuditEntry
from radserve.schema.deployment import Deployment
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions.audit_log import Actor, AuditLog
from radserve.versions.quarantine import QuarantineMarks
from radserve.versions.request_routing import Routes, initial_deployment
from radserve.versions.stored_state import State, StateFolder

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

_UNSAVED: Final = "A change is in effect but not stored, and a restart would undo it"
_INEFFECTIVE: Final = "TorchServe or the proxy was not updated"
_UNMARKED: Final = "The model store's index does not show what is in quarantine"

_Change = Callable[[State], State]


async def _no_effect() -> None:
    pass


async def _problem(text: str, step: Callable[[], Awaitable[object]]) -> str | None:
    """Return what a failed step means, and its error; None if it succeeds."""
    try:
        await step()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and tried again
        return f"{text}: {str(error) or repr(error)}"
    return None


class DeploymentStateManager:
    """Commits changes of the deployment state, one at a time for each model; `audit` is the log of all of them.

    `problem` says what is not in effect or not stored at present; that is tried again in the background.
    """

    def __init__(self, registry: ModelRegistry, folder: StateFolder, run_directory: RunDirectory, store: Path) -> None:
        self._marks = QuarantineMarks(folder, store)
        self._commits: list[tuple[str, list[_Change]]] = []  # in progress: model, and safety measures meanwhile
        self.rollbacks: defaultdict[str, int] = defaultdict(int)  # safety measures of each model so far
        self._run_directory = run_directory
        self._initial = initial_deployment(registry)
        self.routes = Routes(registry, run_directory)
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
        self._marks.lift((model, version) for version in released)
        await self._enforce()

    def _replay_after_reverting(self, model: str, change: _Change) -> None:
        """Make a change again if another one of the model, which is in progress, fails and is reverted."""
        for measures in (measures for name, measures in self._commits if name == model):
            measures.append(change)

    async def _act(self, change: _Change, entry: AuditEntry, *, lasting: bool = False) -> str | None:
        """Change the state and put it into effect, then store it; return why it is not in effect, or None.

        A commit in progress that fails does not revert a `lasting` change.
        """
        self.folder.state = change(self._declared)
        if lasting and entry.model is not None:
            self.rollbacks[entry.model] += 1
            self._replay_after_reverting(entry.model, change)
        self._unrecorded.append(entry)
        return await self._enforce()

    async def lift_mark(self, name: str, version: str) -> None:
        """Remove the mark of a version from the model store's index, unless the state has it in quarantine."""
        self._marks.lift([(name, version)])
        await self._enforce()

    async def _enforce(self) -> str | None:
        """Put the state into effect and store it, or try again in the background; return why it is not in effect."""
        with suppress(Exception):  # reported below
            self._write_tables()
        await _problem(_UNSAVED, self._save)  # before TorchServe, which may take its time; tried again below
        ineffective = await _problem(_INEFFECTIVE, self.synchronize)
        unmarked = await _problem(_UNMARKED, self._marks.write)
        problem = ineffective or await _problem(_UNSAVED, self._save) or unmarked
        if problem is not None:
            FAILURES.inc()
            if self.problem is None:
                logger.error("%s (tried again every %g s)", problem, _RETRY_SECONDS)
            if self._retries is None or self._retries.done():
                self._retries = observe(asyncio.create_task(self._retry()), "storing of changes")
        self.problem = problem
        PENDING.set(problem is not None)
        return ineffective

    async def _save(self) -> None:
        if self._unrecorded or not self.folder.saved:
            self.record()

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
            await self.routes.set_defaults(self.deployment)

    def _write_tables(self) -> None:
        self.routes.write(self.deployment, self.state.rollouts)

    def close(self, pair: Pair) -> None:
        """Reject requests that name this version, if a proxy runs in front of this server; OSError if that fails."""
        self.routes.close(pair)
        self._write_tables()

    @asynccontextmanager
    async def closed(self, pair: Pair) -> AsyncIterator[None]:
        """Close a version, and open it at the end."""
        async with self.reopened_after(pair):
            self.close(pair)
            yield

    @asynccontextmanager
    async def reopened_after(self, pair: Pair) -> AsyncIterator[None]:
        """Open a version at the end, whether or not it was closed meanwhile."""
        try:
            yield
        finally:
            self.routes.reopen(pair)
            await self._enforce()

    async def stop(self) -> None:
        """Stop the attempts in the background, and release the folder."""
        if self._retries is not None:
            self._retries.cancel()
            await asyncio.gather(self._retries, return_exceptions=True)
        if self.problem is not None:
            logger.error("stopping with changes pending: %s", self.problem)
        self.folder.release()
