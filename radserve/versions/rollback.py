"""Rolls a model back to the version that had its requests before."""

from dataclasses import dataclass

from radserve.errors import ConflictError
from radserve.torchserve.registry import ModelVersion, Pair
from radserve.versions.audit_log import Actor
from radserve.versions.change_lock import change_errors
from radserve.versions.stored_state import State, main_version
from radserve.versions.version_manager import VersionManager, declare


async def roll_back(manager: VersionManager, name: str, actor: Actor) -> None:
    """Send all requests of a model to the version that had them before; register it again if necessary.

    It waits for other changes of the model only if the version has no ready worker.
    """
    manager.lock.require_accepting()
    manager.lock.require_no_rollout(name)
    rejected = main_version(manager.declared_versions(name))
    await Rollback(manager, name, rejected, await _target(manager, name)).run(actor)


async def _target(manager: VersionManager, name: str) -> str:
    previous = manager.deployment_state.state.previous.get(name)
    if previous is None:
        raise ConflictError(f"{name}: no previous version is known; use 'radserve models promote {name} VERSION'.")
    if (name, previous) in await manager.quarantine():
        raise ConflictError(
            f"{name}: the previous version {previous} is in quarantine, because it was rolled back; to use it "
            f"nevertheless, name it: 'radserve models promote {name} {previous}'."
        )
    return previous


@dataclass(frozen=True)
class Rollback:
    """A rollback of a model from its main version, `rejected`, to the version `target`."""

    manager: VersionManager
    name: str
    rejected: str
    target: str

    @property
    def _pair(self) -> Pair:
        return self.name, self.target

    async def run(self, actor: Actor) -> None:
        """Make the rollback; if it fails, the target is unregistered unless something else uses it."""
        try:
            with change_errors(self.name):
                await self._commit(await self._ready_target(), actor)
        finally:
            if self.manager.deployment_state.deployment.find(*self._pair) is None:
                self.manager.cleanup.start(self._pair)
            else:
                await self.manager.unregistration.cancel(self._pair)

    async def _ready_target(self) -> ModelVersion:
        """Return the target once it answers its sample; keep it or register it if necessary."""
        manager = self.manager
        await manager.unregistration.cancel(self._pair)
        target = manager.registry.get(*self._pair)
        if target is not None and target.ready > 0:
            await manager.registration.verify_response(target)
            return target if self._pair not in manager.unregistration else await self._ready_target()
        async with manager.lock.exclusive_change(self.name, recorded=False):
            target = manager.registry.get(*self._pair)
            if target is None:
                return await manager.register_candidate(*self._pair, None)
            await manager.registration.verify_sample(target)
            return target

    async def _commit(self, target: ModelVersion, actor: Actor) -> None:
        reason = f"rolled back by {actor.name}" + (f": {actor.reason}" if actor.reason else "")
        await self.manager.deployment_state.commit(
            lambda state: self._rolled_back(state, target, reason),
            actor,
            "rollback",
            f"receives all requests; before, {self.rejected} did",
            target,
            require=self._require_unchanged,
            act_first=True,
        )

    def _require_unchanged(self) -> None:
        self.manager.lock.require_no_rollout(self.name)
        previous = self.manager.deployment_state.state.previous.get(self.name)
        if (previous, main_version(self.manager.declared_versions(self.name))) != (self.target, self.rejected):
            raise ConflictError(f"{self.name}: its versions were changed meanwhile; nothing was rolled back.")

    def _rolled_back(self, state: State, target: ModelVersion, reason: str) -> State:
        """Return the state with all requests at the target and the rejected archive in quarantine."""
        if self.target not in state.versions(self.name):
            state = declare(target)(state)
        state = state.with_shares(self.name, {self.target: 100.0})
        rejected = self.manager.registry.get(self.name, self.rejected)
        if rejected is None or self.rejected == self.target:
            return state
        return state.with_quarantine(rejected.entry, reason)
