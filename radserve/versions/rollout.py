"""One rollout: a version is brought in, gets ever more of the requests, is watched, and goes on or back by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from prometheus_client import Counter

from handlers.errors import RadServeError
from radserve.errors import NotServedError, VersionFailedError
from radserve.proxy.access_events import TrafficWindow
from radserve.torchserve.registry import ModelVersion
from radserve.versions import deployment_spec as declared
from radserve.versions.audit_log import Actor
from radserve.versions.rollout_analysis import Observed, Verdict, judge
from radserve.versions.shadow import Shadow
from radserve.versions.storage import Rollout, State, promoted, with_version, with_versions
from radserve.versions.version_manager import VersionManager

ROLLOUTS: Final = Counter("radserve_rollouts", "Rollouts that ended, by how.", ["model_name", "outcome"], registry=None)
"""`ROLLOUTS.labels(model_name=..., outcome=...).inc()`: promoted, shadowed or rolled_back."""

logger = logging.getLogger(__name__)

_ENDS: Final = ("promoted", "shadowed", "rolled_back")
_LOOK: Final = 0.25
"""Seconds between two looks at what was observed."""
_DOWN: Final = 3.0
"""Seconds for which a worker may be missing; one that TorchServe starts anew takes longer."""


class Run:
    """A rollout under way or at its end; `document` is what clients see of it.

    Parameters
    ----------
    rollout
        As it stands in the state.
    url
        Of TorchServe's inference API, for shadow copies.
    """

    def __init__(self, name: str, rollout: Rollout, changes: VersionManager, window: TrafficWindow, url: str) -> None:
        self.name = name
        self._rollout = rollout
        self._changes = changes
        self._window = window
        self._url = url
        self._plan = rollout.plan
        self._by = Actor(rollout.actor, rollout.plan.reason)
        self._ending = False
        self._given_up: Actor | None = None
        self._phase = "pulling"
        self._detail = "Waiting for its turn."
        self._step_started: datetime | None = None
        self._observed: tuple[Observed, Observed] | None = None
        self.shadow: Shadow | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """The new version."""
        return self._plan.version

    @property
    def before(self) -> str:
        """The version that has the requests."""
        return self._rollout.before

    @property
    def share(self) -> float:
        """Percent of the requests that the new version has; none while it is brought in again after a restart."""
        if self._phase == "promoted":
            return 100.0
        if self._phase != "canary" or self._rollout.step is None:
            return 0.0
        return self._plan.steps[self._rollout.step]

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._phase in _ENDS

    @property
    def rolled_back(self) -> bool:
        """Whether it has ended where it began."""
        return self._phase == "rolled_back"

    def document(self) -> dict[str, Any]:
        """Write it as clients read it."""
        candidate, stable = self._observed or (None, None)
        return {
            "name": self.name,
            "version": self._plan.version,
            "before": self._rollout.before,
            "phase": self._phase,
            "done": self.done,
            "succeeded": self._phase != "rolled_back" if self.done else None,
            "share": self.share,
            "steps": list(self._plan.steps),
            "step": self._rollout.step if self._plan.shadow is None else None,
            "started": self._rollout.started,
            "step_started": self._step_started.isoformat() if self._step_started else None,
            "detail": self._detail,
            "candidate": asdict(candidate) if candidate else None,
            "stable": asdict(stable) if stable else None,
            "shadow": self.shadow.report.document() if self.shadow else None,
        }

    def start(self) -> None:
        """Begin, or go on where the server was interrupted."""
        for outcome in _ENDS:  # from 0: a series that began with its first end would show no increase by it
            ROLLOUTS.labels(model_name=self.name, outcome=outcome)
        self._task = asyncio.create_task(self._run())

    async def give_up(self, by: Actor) -> None:
        """Go back to the version before, and wait until that is so; one that is just ending is let end."""
        assert self._task is not None
        if self._given_up is None and not self._ending:
            self._given_up = by
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Stop with the server: the state keeps where it stood."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            try:
                await self._go()
            except asyncio.CancelledError:
                if self._given_up is None:
                    raise  # the server stops
                who = self._given_up
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                await self._back(f"given up by {who.actor}" + (f": {who.reason}" if who.reason else ""), who)
            except (RadServeError, httpx.HTTPError, OSError) as error:
                await self._back(str(error) or repr(error), Actor("server"))
            except Exception as error:  # whatever it is, the version before must have the requests
                logger.exception("the rollout of %s %s failed", self.name, self._plan.version)
                await self._back(f"a fault of the server: {error!r}", Actor("server"))
        finally:
            if self.shadow is not None:
                await self.shadow.close()

    async def _go(self) -> None:
        member = await self._candidate()
        if self._plan.shadow is not None:
            await self._copy(member)
            return
        if not self._changes.ledger.fronted:
            await self._promote(
                member,
                "No nginx stands before this server, so requests could not be split: after it had answered its sample "
                "as it did when it was built, it got all of them at once",
            )
            return
        for step in range(self._rollout.step or 0, len(self._plan.steps)):
            await self._take_step(step, member)
        await self._promote(member, f"It has all requests; in its last step: {self._detail.rstrip('.')}")

    async def _candidate(self) -> ModelVersion:
        """Have the version registered and asked its sample."""
        changes, version = self._changes, self._plan.version
        async with changes.changing(self.name, rollout=True):
            try:
                member = changes.member(self.name, version)
            except NotServedError:
                member = await changes.bring(self.name, version, self._plan.workers, self._tell)
            else:
                self._tell("starting")
                await changes.require_answers(member)
        return member

    def _tell(self, phase: str, detail: str | None = None) -> None:
        if detail is None:
            detail = {
                "pulling": "Making sure that the model store holds the archive.",
                "verifying": "Checking the archive, and trying whether its code answers its sample.",
                "starting": "Starting its workers, and asking them its sample.",
            }[phase]
        if phase != self._phase:
            logger.info("rollout of %s %s: %s: %s", self.name, self._plan.version, phase, detail)
        self._phase, self._detail = phase, detail
        if self.done:
            ROLLOUTS.labels(model_name=self.name, outcome=phase).inc()

    async def _take_step(self, step: int, member: ModelVersion) -> None:
        share = declared.percent(self._plan.steps[step])
        await self._record(step, f"gets {share} of the requests", member)
        self._window.clear(self.name)
        self._tell("canary", f"It has {share} of the requests.")
        logger.info("rollout of %s: %s of the requests", member, share)
        await self._observe(member, lambda seconds: judge(*self._look(), self._plan, seconds), f"{share} of requests")

    async def _observe(self, member: ModelVersion, judged: Callable[[float], tuple[Verdict, str]], what: str) -> None:
        """Look until a step is over.

        Raises
        ------
        Failed
            If the version must not go on.
        """
        self._step_started = datetime.now(UTC)
        start = time.monotonic()
        missing_since: float | None = None
        while True:
            await asyncio.sleep(_LOOK)
            now = time.monotonic()
            verdict, why = judged(now - start)
            self._detail = f"{what}: {why}."
            if verdict is Verdict.BACK:
                raise VersionFailedError(f"{member}, {what}: {why}.")
            ready = await self._changes.ready_workers(member)
            missing_since = None if ready == member.workers else missing_since or now
            if missing_since is not None and now - missing_since > _DOWN:
                raise VersionFailedError(f"{member}, {what}: {ready} of {member.workers} workers are ready.")
            if verdict is Verdict.GO and missing_since is None:
                return

    def _look(self) -> tuple[Observed, Observed]:
        self._observed = self._seen(self._plan.version), self._seen(self._rollout.before)
        return self._observed

    def _seen(self, version: str) -> Observed:
        tally = self._window.tally(self.name, version)
        return Observed(tally.requests, tally.errors, tally.refusals, tally.p95)

    async def _copy(self, member: ModelVersion) -> None:
        """Send copies of requests, and compare."""
        plan = self._plan
        assert plan.shadow is not None
        self._changes.require_front(self.name)
        shadow = self.shadow = Shadow(self._url, self.name, self._rollout.before, plan.version)
        percent = declared.percent(plan.shadow)
        await self._record(0, f"gets copies of {percent} of the requests; nobody gets its answers", member)
        self._tell("shadow", f"It gets copies of {percent} of the requests.")

        def judged(seconds: float) -> tuple[Verdict, str]:
            report = shadow.report
            words = f"{report.agreeing} of {report.compared} answers agree"
            enough = seconds >= plan.step_seconds and report.compared >= plan.min_requests
            return (Verdict.GO if enough else Verdict.WAIT), words

        await self._observe(member, judged, f"copies of {percent} of requests")

        def change(state: State) -> State:
            rollouts = {name: item for name, item in state.rollouts.items() if name != self.name}
            return self._standing_by(state, member).but(rollouts=rollouts)

        self._ending = True
        words = f"{self._detail.rstrip('.')}; it stands by"
        await self._changes.ledger.commit(change, Actor("server", self._by.reason), "rollout", words, member)
        self._tell("shadowed", f"{words}. Nothing else was changed.")

    def _standing_by(self, state: State, member: ModelVersion) -> State:
        have = self._changes.ledger.deployment
        if have.find(*member.pair) is not None:
            return state.but(deployment=have)
        entry = declared.Served(share=0.0, workers=member.workers)
        return state.but(deployment=with_version(have, *member.pair, entry))

    async def _record(self, step: int, detail: str, member: ModelVersion) -> None:
        rollout = self._rollout.model_copy(update={"step": step})
        await self._changes.ledger.commit(
            lambda state: state.but(rollouts=state.rollouts | {self.name: rollout}),
            Actor("server", self._by.reason),
            "rollout",
            detail,
            member,
        )
        self._rollout = rollout

    async def _promote(self, member: ModelVersion, detail: str) -> None:
        def change(state: State) -> State:
            state = self._standing_by(state, member)
            assert state.deployment is not None
            versions = promoted(state.deployment.models[self.name].versions, self._plan.version)
            return state.but(
                deployment=with_versions(state.deployment, self.name, versions),
                previous=state.previous | {self.name: self._rollout.before},
                rollouts={name: item for name, item in state.rollouts.items() if name != self.name},
            )

        self._ending = True
        said = f"is promoted; {self._rollout.before} stands by"
        await self._changes.ledger.commit(change, Actor("server", self._by.reason), "rollout", said, member)
        self._tell("promoted", f"{detail}. {self._rollout.before} stands by.")

    async def _back(self, why: str, by: Actor) -> None:
        """Give all requests to the version before, then take the candidate away."""
        changes, version = self._changes, self._plan.version

        def change(state: State) -> State:
            return state.but(rollouts={name: item for name, item in state.rollouts.items() if name != self.name})

        self._ending = True
        detail = f"is rolled back, {self._rollout.before} has all requests: {why.rstrip('.')}"
        logger.warning("%s %s: %s", self.name, version, detail)
        try:
            member = changes.member(self.name, version)
        except NotServedError:
            member = None
        await changes.ledger.commit(change, by, "rollout", detail, member, model=self.name, version=version)
        self._tell("rolled_back", why if why.endswith(".") else f"{why}.")
        if member is not None and changes.ledger.deployment.find(self.name, version) is None:
            changes.let_go(member)
