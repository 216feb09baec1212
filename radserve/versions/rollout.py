"""Runs one rollout: registers a version, increases its share step by step, and promotes it or rolls it back."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import Counter

from radserve.build.model_store import Entry
from radserve.errors import (
    ArchiveError,
    ChangeError,
    NotServedError,
    RadServeError,
    StoreIndexError,
    VersionFailedError,
)
from radserve.host.background import observe
from radserve.proxy.access_events import TrafficWindow
from radserve.schema.deployment import DeployedVersion, percent
from radserve.schema.rollout import RolloutStatus, TrafficSample
from radserve.torchserve.registry import ModelVersion
from radserve.versions.audit_log import Actor
from radserve.versions.deployment_state import SERVER
from radserve.versions.rollout_decision import Decision, decide
from radserve.versions.shadow import ShadowComparison
from radserve.versions.stored_state import RolloutRecord, State
from radserve.versions.version_manager import VersionManager

_OUTCOMES: Final = ("promoted", "shadowed", "rolled_back")
ROLLOUTS: Final = Counter(
    "radserve_rollouts", "Completed rollouts by outcome.", ["model_name", "outcome"], registry=None
)

logger = logging.getLogger(__name__)

_PHASES: Final = {
    "pulling": "Checking that the model store holds the archive.",
    "verifying": "Verifying the archive and starting its code in a separate process.",
    "starting": "Starting its workers and checking their response to the sample.",
}
_POLL_SECONDS: Final = 0.25
_MAX_MISSING_SECONDS: Final = 3.0  # how long a worker may be missing; TorchServe needs longer to restart one

_StepDecision = Callable[[float], tuple[Decision, str]]
"""Maps the seconds since a step began to its decision and the reason."""


class Rollout:
    """A rollout in progress, or one that has ended, of the new `version` that replaces `stable`.

    `traffic` counts requests for the decisions. Copied requests are sent to TorchServe's `inference` socket.
    """

    def __init__(
        self,
        name: str,
        record: RolloutRecord,
        version_manager: VersionManager,
        traffic: TrafficWindow,
        inference: Path,
    ) -> None:
        self.name = name
        self.version = record.plan.version
        self.stable = record.before
        self.shadow: ShadowComparison | None = None  # set from the shadow phase on
        self._record = record
        self._spec = record.plan
        self._version_manager = version_manager
        self._deployment_state = version_manager.deployment_state
        self._traffic = traffic
        self._inference = inference
        self._actor = Actor(SERVER.name, record.plan.reason)
        self._aborted_by: Actor | None = None
        self._ending = False
        self._phase = "pulling"
        self._detail = "Waiting for earlier changes of the model."
        self._archive: Entry | None = None  # of a candidate that is not registered yet
        self._step_started: datetime | None = None
        self._samples: tuple[TrafficSample, TrafficSample] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def share(self) -> float:
        """Percent of the requests that the new version receives; 0 while a restart registers it again."""
        if self._phase == "promoted":
            return 100.0
        if self._phase != "canary" or self._record.step is None:
            return 0.0
        return self._spec.steps[self._record.step]

    @property
    def done(self) -> bool:
        """Whether the rollout has ended."""
        return self._phase in _OUTCOMES

    def status(self) -> RolloutStatus:
        """Return the rollout as the control API represents it."""
        candidate, stable = self._samples or (None, None)
        return RolloutStatus(
            name=self.name,
            version=self.version,
            before=self.stable,
            phase=self._phase,
            done=self.done,
            succeeded=self._phase != "rolled_back" if self.done else None,
            share=self.share,
            steps=self._spec.steps,
            step=self._record.step if self._spec.shadow is None else None,
            started=self._record.started,
            step_started=self._step_started,
            detail=self._detail,
            candidate=candidate,
            stable=stable,
            shadow=self.shadow.report.document() if self.shadow else None,
        )

    def start(self) -> None:
        """Start the rollout, or resume it at its recorded step."""
        for outcome in _OUTCOMES:  # create the series at 0, so that Prometheus sees the first increase
            ROLLOUTS.labels(model_name=self.name, outcome=outcome)
        self._task = observe(asyncio.create_task(self._run()), "rollout")

    async def abort(self, actor: Actor) -> bool:
        """Roll back and wait for the end, unless the rollout is already ending; return whether it was rolled back."""
        assert self._task is not None
        await asyncio.sleep(0)  # a task that is cancelled before its first step would not roll back
        if self._aborted_by is None and not self._ending:
            self._aborted_by = actor
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self._task)
        return self._phase == "rolled_back"

    async def stop(self) -> None:
        """Stop with the server; the stored state keeps the step, so that a restart resumes it."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            await self._advance()
        except asyncio.CancelledError:
            if self._aborted_by is None:
                raise  # the server stops
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            actor = self._aborted_by
            reason = f"aborted by {actor.name}" + (f": {actor.reason}" if actor.reason else "")
            await self._roll_back(reason, actor, by_fault=True)
        except (RadServeError, httpx.HTTPError, OSError) as error:
            unreadable = isinstance(error, StoreIndexError) or isinstance(error.__cause__, OSError)
            by_fault = isinstance(error, VersionFailedError | ArchiveError) and not unreadable
            await self._roll_back(str(error) or repr(error), SERVER, by_fault=by_fault)
        except Exception as error:  # whatever it is, the stable version must get the requests
            logger.exception("the rollout of %s %s failed", self.name, self.version)
            await self._roll_back(f"internal error of the server: {error!r}", SERVER, by_fault=False)
        finally:
            if self.shadow is not None:
                await self.shadow.close()

    async def _advance(self) -> None:
        candidate = await self._register()
        if self._spec.max_shift is not None:
            self._version_manager.require_proxy(self.name)
        if self._spec.shadow is not None:
            await self._compare(candidate, self._spec.shadow)
        elif not self._deployment_state.has_proxy:
            await self._promote(
                candidate,
                "Without a proxy, requests cannot be split: the version answered its sample as it did when it was "
                "built, then received all of them",
            )
        else:
            for step in range(self._record.step or 0, len(self._spec.steps)):
                await self._take_step(step, candidate)
            await self._promote(candidate, f"Receives all requests. Last step: {self._detail.rstrip('.')}")

    async def _register(self) -> ModelVersion:
        """Register the candidate, or check the sample of a version that is registered already."""
        manager = self._version_manager
        async with manager.lock.exclusive_change(self.name, by_rollout=True):
            try:
                candidate = manager.registered_version(self.name, self.version)
            except NotServedError:
                return await manager.register_candidate(self.name, self.version, self._spec.workers, self._enter_phase)
            self._enter("starting", _PHASES["starting"])
            await manager.registration.verify_sample(candidate)
            return candidate

    def _enter_phase(self, phase: str, archive: Entry | None) -> None:
        self._archive = archive
        self._enter(phase, _PHASES[phase])

    def _enter(self, phase: str, detail: str) -> None:
        if phase != self._phase:
            logger.info("rollout of %s %s: %s: %s", self.name, self.version, phase, detail)
        self._phase, self._detail = phase, detail
        if self.done:
            ROLLOUTS.labels(model_name=self.name, outcome=phase).inc()

    async def _take_step(self, step: int, candidate: ModelVersion) -> None:
        share = percent(self._spec.steps[step])
        await self._record_step(step, f"receives {share} of the requests", candidate)
        self._traffic.clear(self.name)
        self._enter("canary", f"Receives {share} of the requests.")
        logger.info("rollout of %s: %s of the requests", candidate, share)

        def decide_step(elapsed: float) -> tuple[Decision, str]:
            self._samples = self._sample(self.version), self._sample(self.stable)
            return decide(*self._samples, self._spec, self._spec.steps[step], elapsed)

        await self._watch(candidate, decide_step, f"{share} of requests")

    def _sample(self, version: str) -> TrafficSample:
        tally = self._traffic.tally(self.name, version)
        outcomes = {kind: dict(counts) for kind, counts in tally.outcomes.items()}
        return TrafficSample(
            requests=tally.requests,
            errors=tally.errors,
            rejections=tally.rejections,
            p95=tally.p95,
            outcomes=outcomes,
        )

    async def _watch(self, candidate: ModelVersion, decide_step: _StepDecision, traffic: str) -> None:
        """Watch a step until it is decided; raise VersionFailedError if the candidate must be rolled back.

        While TorchServe's management API is silent, the traffic decides, and the step does not end.
        """
        self._step_started = datetime.now(UTC)
        start = time.monotonic()
        missing_since: float | None = None
        counting: asyncio.Task[int] | None = None
        try:
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                now = time.monotonic()
                decision, reason = decide_step(now - start)
                self._detail = f"{traffic}: {reason}."
                if decision is Decision.ROLL_BACK:
                    raise VersionFailedError(f"{candidate}, {traffic}: {reason}.")
                if decision is Decision.GIVE_UP:
                    raise ChangeError(f"{candidate}, {traffic}: {reason}.")
                counting = counting or asyncio.create_task(self._version_manager.registry.count_ready(candidate))
                await asyncio.wait({counting}, timeout=_POLL_SECONDS)
                if not counting.done():
                    continue
                ready, counting = counting.result(), None
                missing_since = None if ready == candidate.workers else missing_since or now
                if missing_since is not None and now - missing_since > _MAX_MISSING_SECONDS:
                    raise VersionFailedError(
                        f"{candidate}, {traffic}: {ready} of {candidate.workers} workers are ready."
                    )
                if decision is Decision.ADVANCE and missing_since is None:
                    return
        finally:
            if counting is not None:
                counting.cancel()

    async def _compare(self, candidate: ModelVersion, share: float) -> None:
        """Send copies of requests to the candidate, and compare its responses."""
        self._version_manager.require_proxy(self.name)
        self.shadow = ShadowComparison(self._inference, self.name, self.stable, self.version)
        report = self.shadow.report
        await self._record_step(
            0, f"receives copies of {percent(share)} of the requests; its responses are discarded", candidate
        )
        self._enter("shadow", f"Receives copies of {percent(share)} of the requests.")

        def decide_step(elapsed: float) -> tuple[Decision, str]:
            enough = elapsed >= self._spec.step_seconds and report.compared >= self._spec.min_requests
            decision = Decision.ADVANCE if enough else Decision.WAIT
            return decision, f"{report.agreeing} of {report.compared} responses agree"

        await self._watch(candidate, decide_step, f"copies of {percent(share)} of requests")
        self._ending = True
        detail = f"{self._detail.rstrip('.')}; now on standby"
        await self._commit(lambda state: self._declare(state, candidate), detail, candidate)
        self._enter("shadowed", f"{detail}. Traffic is unchanged.")

    async def _promote(self, candidate: ModelVersion, detail: str) -> None:
        self._ending = True
        await self._commit(
            lambda state: self._declare(state, candidate).with_shares(self.name, {self.version: 100.0}),
            f"promoted; {self.stable} is on standby",
            candidate,
        )
        self._enter("promoted", f"{detail}. {self.stable} is on standby.")

    def _declare(self, state: State, candidate: ModelVersion) -> State:
        """End the rollout with the candidate on standby."""
        state = state.with_rollout(self.name, None)
        if self.version in state.versions(self.name):
            return state
        return state.with_version(self.name, self.version, DeployedVersion(share=0.0, workers=candidate.workers))

    async def _record_step(self, step: int, detail: str, candidate: ModelVersion) -> None:
        record = self._record.model_copy(update={"step": step})
        await self._commit(lambda state: state.with_rollout(self.name, record), detail, candidate)
        self._record = record

    async def _commit(self, change: Callable[[State], State], detail: str, candidate: ModelVersion) -> None:
        await self._deployment_state.commit(change, self._actor, "rollout", detail, candidate)

    async def _roll_back(self, reason: str, actor: Actor, *, by_fault: bool) -> None:
        """Give all requests to the stable version, then unregister the candidate.

        A rollback `by_fault` of the version, and not of the server, puts the archive into quarantine.
        """
        self._ending = True
        reason = reason.rstrip(".")
        pair = self.name, self.version
        try:
            candidate = self._version_manager.registered_version(*pair)
        except NotServedError:
            candidate = None
        archive = candidate.entry if candidate else self._archive

        def change(state: State) -> State:
            state = state.with_rollout(self.name, None)
            return state.with_quarantine(archive, reason) if by_fault and archive else state

        try:
            await self._deployment_state.commit(
                change,
                actor,
                "rollout",
                f"rolled back; {self.stable} receives all requests: {reason}",
                candidate or pair,
                act_first=True,
            )
            self._enter("rolled_back", f"{reason}.")
        except ChangeError as error:
            self._enter("rolled_back", str(error))
        if candidate is not None and self._deployment_state.deployment.find(self.name, self.version) is None:
            self._version_manager.unregistration.start(candidate)
