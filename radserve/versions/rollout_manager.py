"""All rollouts of a server: at most one a model, and the last one of each to look at."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from radserve.errors import ConflictError, NotServedError
from radserve.proxy.access_events import TrafficWindow
from radserve.schema.rollout import RolloutSpec
from radserve.versions.audit_log import Actor
from radserve.versions.rollout import Run
from radserve.versions.storage import Rollout, main_version
from radserve.versions.version_manager import VersionManager


class Rollouts:
    """Begins rollouts, gives them up, and goes on with those that a restart interrupted."""

    def __init__(self, changes: VersionManager, window: TrafficWindow, url: str) -> None:
        self._changes = changes
        self._window = window
        self._url = url
        self._runs: dict[str, Run] = {}

    def all(self) -> list[Run]:
        """Return the last rollout of each model."""
        return [self._runs[name] for name in sorted(self._runs)]

    def find(self, name: str) -> Run | None:
        """Return the last rollout of a model, since the server started."""
        return self._runs.get(name)

    def get(self, name: str) -> Run:
        """Return the last rollout of a model.

        Raises
        ------
        NotServed
            If there was none since the server started.
        """
        found = self.find(name)
        if found is None:
            raise NotServedError(f"{name}: no rollout since the server started; 'radserve audit' has older ones.")
        return found

    async def start(self, name: str, plan: RolloutSpec, by: Actor) -> Run:
        """Begin a rollout.

        Raises
        ------
        NotServed, Conflict, Unready
            If there is nothing to roll out from, the version has all requests, or another rollout is under way.
        """
        changes = self._changes
        async with changes.changing(name):
            versions = changes.versions(name)
            before = main_version(versions)
            if before == plan.version:
                raise ConflictError(f"{name} {plan.version} has the requests already.")
            if versions[before].share != 100:
                raise ConflictError(
                    f"{name}: its requests are split; promote one version before another is rolled out."
                )
            if plan.shadow is not None:
                changes.require_front(name)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            rollout = Rollout(plan=plan, before=before, actor=by.actor, started=started)
            await changes.ledger.commit(
                lambda state: state.but(
                    deployment=changes.ledger.deployment, rollouts=state.rollouts | {name: rollout}
                ),
                Actor(by.actor, plan.reason),
                "rollout",
                f"its rollout begins; {before} has the requests",
                model=name,
                version=plan.version,
            )
            return self._begin(name, rollout)

    def _begin(self, name: str, rollout: Rollout) -> Run:
        run = self._runs[name] = Run(name, rollout, self._changes, self._window, self._url)
        run.start()
        return run

    async def give_up(self, name: str, by: Actor) -> Run:
        """Give a rollout up.

        Raises
        ------
        Conflict
            If it has ended.
        """
        run = self.get(name)
        if run.done:
            raise ConflictError(f"{name}: its rollout has ended; 'radserve models rollback {name}' goes back.")
        await run.give_up(by)
        if not run.rolled_back:
            raise ConflictError(f"{name}: its rollout was just ending; 'radserve models rollback {name}' goes back.")
        return run

    def resume(self) -> None:
        """Go on with what a restart interrupted."""
        for name, rollout in self._changes.ledger.state.rollouts.items():
            self._begin(name, rollout)

    async def stop(self) -> None:
        """Stop with the server."""
        await asyncio.gather(*(run.stop() for run in self._runs.values()))
