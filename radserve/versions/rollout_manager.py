"""Manages the rollouts of a server: at most one in progress for each model."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from radserve.errors import ConflictError, NotServedError
from radserve.proxy.access_events import TrafficWindow
from radserve.schema.rollout import RolloutSpec
from radserve.versions.audit_log import Actor
from radserve.versions.rollout import Rollout
from radserve.versions.stored_state import RolloutRecord, main_version
from radserve.versions.version_manager import VersionManager


@dataclass
class RolloutManager:
    """Starts, aborts and resumes rollouts; iterates over the last one of each model since the server started."""

    version_manager: VersionManager
    traffic: TrafficWindow
    inference: Path
    _rollouts: dict[str, Rollout] = field(default_factory=dict, init=False)

    def __iter__(self) -> Iterator[Rollout]:
        return iter([self._rollouts[name] for name in sorted(self._rollouts)])

    def find(self, name: str) -> Rollout | None:
        """Return the last rollout of a model since the server started, or None."""
        return self._rollouts.get(name)

    def get(self, name: str) -> Rollout:
        """Return the last rollout of a model; raise NotServedError if there was none since the server started."""
        rollout = self.find(name)
        if rollout is None:
            raise NotServedError(f"{name}: no rollout since the server started; 'radserve audit' shows earlier ones.")
        return rollout

    async def start(self, name: str, spec: RolloutSpec, actor: Actor) -> Rollout:
        """Start a rollout, unless the version already has all requests or another rollout is in progress."""
        manager = self.version_manager
        async with manager.lock.exclusive_change(name) as require:
            versions = manager.declared_versions(name)
            stable = main_version(versions)
            if stable == spec.version:
                raise ConflictError(f"{name} {spec.version} already receives the requests.")
            if versions[stable].share != 100:
                raise ConflictError(f"{name}: its requests are split; promote one version before you roll out another.")
            manager.registration.require_profile(name, spec.version, stable)
            if spec.shadow is not None or spec.max_shift is not None:
                manager.require_proxy(name)
            started = datetime.now(UTC).replace(microsecond=0)
            record = RolloutRecord(plan=spec, before=stable, actor=actor.name, started=started)
            await manager.deployment_state.commit(
                lambda state: state.with_rollout(name, record),
                Actor(actor.name, spec.reason),
                "rollout",
                f"rollout started; {stable} receives the requests",
                (name, spec.version),
                require=require,
            )
            return self._run(name, record)

    def _run(self, name: str, record: RolloutRecord) -> Rollout:
        rollout = Rollout(name, record, self.version_manager, self.traffic, self.inference)
        self._rollouts[name] = rollout
        rollout.start()
        return rollout

    async def abort(self, name: str, actor: Actor) -> Rollout:
        """Abort a rollout; raise ConflictError if it has ended."""
        rollout = self.get(name)
        if rollout.done or not await rollout.abort(actor):
            raise ConflictError(f"{name}: its rollout has ended; 'radserve models rollback {name}' rolls it back.")
        return rollout

    def resume(self) -> None:
        """Resume the rollouts that a restart interrupted."""
        for name, record in self.version_manager.deployment_state.state.rollouts.items():
            self._run(name, record)

    async def stop(self) -> None:
        """Stop all rollouts with the server; a restart resumes them."""
        await asyncio.gather(*(rollout.stop() for rollout in self._rollouts.values()))
