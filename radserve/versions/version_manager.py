"""Changes the served versions: registers, scales, promotes, unregisters, applies a deployment."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field, replace

import httpx

from radserve.errors import ChangeError, ConflictError, NotServedError, RadServeError
from radserve.schema.deployment import Change, DeployedVersion, Deployment, percent
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import deployment_file, quarantine
from radserve.versions.audit_log import Actor
from radserve.versions.change_lock import ChangeLock
from radserve.versions.cleanup import Cleanup
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.registration import PhaseListener, Registration
from radserve.versions.request_hold import RequestHold
from radserve.versions.scaling import Scaling
from radserve.versions.stored_state import QuarantineEntry, State, main_version
from radserve.versions.unregistration import Unregistration


@dataclass
class VersionManager:
    """Changes versions, one change of a model at a time. A change that fails raises RadServeError."""

    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    registration: Registration
    unregistration: Unregistration
    hold: InitVar[RequestHold]
    default_workers: int  # if neither the request nor the model's main version determines them
    lock: ChangeLock = field(init=False)
    scaling: Scaling = field(init=False)
    cleanup: Cleanup = field(init=False)

    def __post_init__(self, hold: RequestHold) -> None:
        self.lock = ChangeLock(self.deployment_state)
        self.scaling = Scaling(self.registry, hold, self.unregistration.settle)
        self.cleanup = Cleanup(self.registry, self.deployment_state, self.unregistration, self.scaling, self.lock)

    @property
    def problems(self) -> list[str]:
        """What an operator should know, although predictions are not affected."""
        return [*self.deployment_state.problems, *self.cleanup.problems]

    @property
    def versions_with_traffic(self) -> list[ModelVersion]:
        """The versions that receive requests: neither standby versions nor candidates."""
        declared = ((item, self.deployment_state.deployment.find(*item.pair)) for item in self.registry)
        return [item for item, served in declared if served is not None and served.share > 0]

    def registered_version(self, name: str, version: str) -> ModelVersion:
        """Return a registered version: with traffic, on standby or a candidate; raise NotServedError for another."""
        model_version = self.registry.get(name, version)
        if model_version is None or (name, version) in self.unregistration:
            available = ", ".join(item.entry.version for item in self.registry.of(name)) or "none"
            raise NotServedError(f"{name} {version} is not registered. Registered versions: {available}.")
        return model_version

    def declared_versions(self, name: str) -> dict[str, DeployedVersion]:
        """Return the declared versions of a model; raise NotServedError if there are none."""
        models = self.deployment_state.deployment.models
        if name not in models:
            raise unknown_model(name, models)
        return models[name].versions

    async def start(self) -> None:
        """Route requests as the state declares, and accept changes; see `DeploymentStateManager.synchronize`."""
        await self.deployment_state.synchronize()
        self.lock.accepts_changes = True

    async def stop(self) -> None:
        """Reject further changes."""
        self.lock.accepts_changes = False
        await self.cleanup.stop()
        await self.unregistration.stop()
        await self.deployment_state.stop()

    def require_proxy(self, name: str) -> None:
        """Reject a traffic split without a proxy."""
        if not self.deployment_state.has_proxy:
            raise ConflictError(f"{name}: only a proxy can split its requests; run 'radserve front'.")

    async def register(self, name: str, version: str, workers: int | None, actor: Actor) -> ModelVersion:
        """Register a version. It is on standby, or receives all requests if it is the model's only version."""
        async with self.lock.exclusive_change(name):
            self._require_unregistered(name, version)  # a version that something else uses must not be cleaned up
            try:
                model_version = await self.register_candidate(name, version, workers)
                await self.deployment_state.commit(
                    declare(model_version), actor, "register", "registered", model_version
                )
            except BaseException:
                await self.cleanup.run((name, version))
                raise
        return model_version

    async def register_candidate(
        self, name: str, version: str, workers: int | None, on_phase: PhaseListener = lambda *_: None
    ) -> ModelVersion:
        """Register a version without declaring it."""
        self._require_unregistered(name, version)
        return await self.registration.register(name, version, workers or self._usual_workers(name), on_phase)

    def _require_unregistered(self, name: str, version: str) -> None:
        if (name, version) in self.unregistration:
            raise ConflictError(f"{name} {version} is being unregistered; try again in a moment.")
        if self.registry.get(name, version) is not None:
            raise ConflictError(f"{name} {version} is already registered.")

    def _usual_workers(self, name: str) -> int:
        """Return the workers of the model's main version, or the default."""
        model = self.deployment_state.deployment.models.get(name)
        return (model.versions[main_version(model.versions)].workers if model else None) or self.default_workers

    async def scale(self, name: str, version: str, workers: int, actor: Actor) -> ModelVersion:
        """Change the number of workers."""
        async with self.lock.exclusive_change(name):
            before = self.registered_version(name, version)
            if before.workers == workers:
                return before
            try:
                await self.deployment_state.commit(
                    declare(replace(before, workers=workers)),
                    actor,
                    "scale",
                    f"scaled from {before.workers} to {workers} workers",
                    before,
                    effect=lambda: self.scaling.scale(before, workers),
                    effect_first=workers > before.workers,  # a server that the workers crash restarts without them
                )
            except (RadServeError, httpx.HTTPError):
                # TorchServe would restart a failed worker again and again. Others have started, and may have requests.
                await self.cleanup.run(before.pair)
                raise
            return self.registered_version(name, version)

    async def promote(self, name: str, version: str, actor: Actor) -> None:
        """Send all requests of a model to one version, without a rollout."""
        async with self.lock.exclusive_change(name) as require:
            model_version = self.registered_version(name, version)
            versions = self.declared_versions(name)
            if versions[version].share == 100:
                return
            self.registration.require_profile(name, version, main_version(versions))
            await self.registration.verify_sample(model_version)
            await self.deployment_state.commit(
                lambda state: state.with_shares(name, {version: 100.0}),
                actor,
                "promote",
                f"receives all requests; before, {main_version(versions)} did",
                model_version,
                require=require,
            )

    async def quarantine(self) -> Mapping[Pair, QuarantineEntry]:
        """Return the archives of the model store that are in quarantine."""
        return await asyncio.to_thread(quarantine.read, self.deployment_state.state, self.registration.store)

    async def release(self, name: str, version: str, actor: Actor) -> None:
        """Lift the quarantine of a version, so that servers may select it as the newest one."""
        async with self.lock.exclusive_change(name, by_rollout=True):
            if (name, version) not in await self.quarantine():
                raise NotServedError(f"{name} {version} is not in quarantine.")
            await self.deployment_state.commit(
                lambda state: state.without_quarantine(name, version), actor, "release", "released", (name, version)
            )
            await self.deployment_state.lift_mark(name, version)
            if (name, version) in await self.quarantine():
                problem = self.deployment_state.problem or "it is read-only, or the version was rolled back again"
                raise ChangeError(f"{name} {version}: still in quarantine in the model store: {problem}.")

    async def unregister(self, name: str, version: str, actor: Actor, *, force: bool = False) -> None:
        """Unregister a version after it has answered its pending requests; `force` includes a model's only version."""
        async with self.lock.exclusive_change(name) as require:
            model_version = self.registered_version(name, version)
            self._require_dispensable(model_version, force=force)
            await self.deployment_state.commit(
                lambda state: state.with_version(name, version, None),
                actor,
                "unregister",
                "unregistered",
                model_version,
                require=require,
            )
            if self.deployment_state.deployment.find(name, version) is not None:
                raise ConflictError(f"{model_version} stays registered: a rollback needs it.")
            task = self.unregistration.start(model_version)
        await asyncio.wait({task})
        if task.cancelled():
            raise ConflictError(f"{model_version} stays registered: a rollback needs it, or the server stops.")
        task.result()

    def _require_dispensable(self, model_version: ModelVersion, *, force: bool) -> None:
        name, version = model_version.pair
        versions = self.declared_versions(name)
        if version not in versions:
            return  # a candidate that was rolled back and could not be unregistered
        if len(versions) == 1:
            if len(self.deployment_state.deployment.models) == 1:
                raise ConflictError(f"{model_version} is the only version of this server; stop the server instead.")
            if not force:
                raise ConflictError(f"{model_version} is the only version; --force (force=true) stops serving {name}.")
        elif versions[version].share > 0:
            raise ConflictError(
                f"{model_version} receives {percent(versions[version].share)} of the requests; promote another "
                "version first."
            )

    async def apply(self, wanted: Deployment, actor: Actor) -> tuple[Change, ...]:
        """Change the served versions to match a deployment. After a failure, another `apply` continues."""
        changes = deployment_file.changes(self.deployment_state.deployment, wanted)
        requirements = {name: self.lock.no_rollback_from_now(name) for name in wanted.models}
        for name in {change.model for change in changes}:
            self.lock.require_no_rollout(name)
            if name in wanted.models and sum(item.share > 0 for item in wanted.models[name].versions.values()) > 1:
                self.require_proxy(name)
        for change in changes:
            served = wanted.find(change.model, change.version)
            if change.action == "register" and served is not None:
                await self.register(change.model, change.version, served.workers, actor)
            elif change.action == "scale" and served is not None and served.workers is not None:
                await self.scale(change.model, change.version, served.workers, actor)
        for name in dict.fromkeys(change.model for change in changes if change.action == "share"):
            shares = {key: item.share for key, item in wanted.models[name].versions.items()}
            await self._split(name, shares, actor, requirements[name])
        for change in changes:
            if change.action == "unregister":
                await self.unregister(change.model, change.version, actor, force=True)
        return changes

    async def _split(self, name: str, wanted: dict[str, float], actor: Actor, require: Callable[[], None]) -> None:
        async with self.lock.exclusive_change(name):
            versions = self.declared_versions(name)
            for version, share in wanted.items():
                if share > versions[version].share:
                    await self.registration.verify_sample(self.registered_version(name, version))
            shares = ", ".join(f"{key} {percent(wanted.get(key, 0.0))}" for key in versions)
            await self.deployment_state.commit(
                lambda state: state.with_shares(name, wanted),
                actor,
                "share",
                f"requests split: {shares}",
                (name, None),
                require=require,
            )


def unknown_model(name: str, models: Iterable[str]) -> NotServedError:
    """Return the error for a model that is not served."""
    return NotServedError(f"Unknown model {name!r}. Available: {', '.join(sorted(models)) or 'none'}.")


def declare(model_version: ModelVersion) -> Callable[[State], State]:
    """Return the change that declares a version and its workers, with its present share."""
    name, version = model_version.pair

    def change(state: State) -> State:
        versions = state.versions(name)
        share = versions[version].share if version in versions else 0.0 if versions else 100.0
        state = state.with_version(name, version, DeployedVersion(share=share, workers=model_version.workers))
        return state.without_quarantine(name, version) if share > 0 else state

    return change
