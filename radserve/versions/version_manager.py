"""Changes the served versions: registers, scales, promotes, rolls back, unregisters, applies a deployment."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from radserve.errors import ChangeError, ConflictError, NotReadyError, NotServedError, RadServeError
from radserve.host.background import observe
from radserve.schema.deployment import Change, DeployedVersion, Deployment, percent
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import deployment_file, quarantine
from radserve.versions.audit_log import Actor
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.gate import Gate
from radserve.versions.registration import PhaseListener, Registration
from radserve.versions.stored_state import QuarantineEntry, State, main_version
from radserve.versions.unregistration import Unregistration

_MAX_BUSY: Final = 10.0
"""Seconds for which requests wait until a version has answered earlier ones, before its workers are not reduced."""

_EXCESS_SECONDS: Final = 30.0
"""Seconds between attempts to end workers that a failed change has left; each holds the model's requests back."""


@dataclass
class VersionManager:
    """Changes versions, one change of a model at a time. A change that fails raises RadServeError."""

    registry: ModelRegistry
    deployment_state: DeploymentStateManager
    registration: Registration
    unregistration: Unregistration
    gate: Gate
    default_workers: int  # if neither the request nor the model's main version determines them
    accepts_changes: bool = field(default=False, init=False)  # False until the server is ready, and when it stops
    _excess: dict[Pair, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock), init=False)

    @property
    def problems(self) -> list[str]:
        """What an operator should know, although predictions are not affected."""
        excess = [f"{name} {version}: a failed change has left workers." for name, version in self._excess]
        return [*self.deployment_state.problems, *excess]

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
        self.accepts_changes = True

    async def stop(self) -> None:
        """Reject further changes."""
        self.accepts_changes = False
        for task in self._excess.values():
            task.cancel()
        await asyncio.gather(*self._excess.values(), return_exceptions=True)
        await self.unregistration.stop()
        await self.deployment_state.stop()

    @asynccontextmanager
    async def exclusive_change(
        self, name: str, *, by_rollout: bool = False, recorded: bool = True
    ) -> AsyncIterator[Callable[[], None]]:
        """Exclude other changes of a model, and reject this one during a rollout unless the rollout makes it.

        A rollback does not wait: the function that is returned rejects the change if there was one meanwhile.

        A change that must be `recorded` first is rejected if the state folder cannot be used.
        """
        self._require_accepting()
        if recorded:
            self.deployment_state.record()
        require = self._no_rollback_from_now(name)
        async with self._locks[name]:
            self._require_accepting()  # the server may have stopped meanwhile
            if not by_rollout:
                self._require_no_rollout(name)
            with _change_errors(name):
                yield require

    def _no_rollback_from_now(self, name: str) -> Callable[[], None]:
        rollbacks = self.deployment_state.rollbacks
        before = rollbacks[name]

        def require() -> None:
            if rollbacks[name] != before:
                raise ConflictError(f"{name}: it was rolled back meanwhile; nothing was changed.")

        return require

    def _require_accepting(self) -> None:
        if not self.accepts_changes:
            raise NotReadyError("The server is starting or stopping and accepts no changes; try again later.")

    def _require_no_rollout(self, name: str) -> None:
        rollout = self.deployment_state.state.rollouts.get(name)
        if rollout is not None:
            raise ConflictError(
                f"{name}: a rollout of {rollout.plan.version} is in progress; abort it first "
                f"('radserve rollout {name} --abort')."
            )

    def require_proxy(self, name: str) -> None:
        """Reject a traffic split without a proxy."""
        if not self.deployment_state.has_proxy:
            raise ConflictError(f"{name}: only a proxy can split its requests; run 'radserve front'.")

    async def register(self, name: str, version: str, workers: int | None, actor: Actor) -> ModelVersion:
        """Register a version. It is on standby, or receives all requests if it is the model's only version."""
        async with self.exclusive_change(name):
            model_version = await self.register_candidate(name, version, workers)
            try:
                await self.deployment_state.commit(
                    _declare(model_version), actor, "register", "registered", model_version
                )
            except BaseException:
                self.unregistration.start(model_version)  # clients may have named it already
                raise
        return model_version

    async def register_candidate(
        self, name: str, version: str, workers: int | None, on_phase: PhaseListener = lambda *_: None
    ) -> ModelVersion:
        """Register a version without declaring it."""
        if (name, version) in self.unregistration:
            raise ConflictError(f"{name} {version} is being unregistered; try again in a moment.")
        if self.registry.get(name, version) is not None:
            raise ConflictError(f"{name} {version} is already registered.")
        return await self.registration.register(name, version, workers or self._usual_workers(name), on_phase)

    def _usual_workers(self, name: str) -> int:
        """Return the workers of the model's main version, or the default."""
        model = self.deployment_state.deployment.models.get(name)
        return (model.versions[main_version(model.versions)].workers if model else None) or self.default_workers

    async def scale(self, name: str, version: str, workers: int, actor: Actor) -> ModelVersion:
        """Change the number of workers."""
        async with self.exclusive_change(name):
            before = self.registered_version(name, version)
            if before.workers == workers:
                return before
            more = workers > before.workers
            try:
                await self.deployment_state.commit(
                    _declare(replace(before, workers=workers)),
                    actor,
                    "scale",
                    f"scaled from {before.workers} to {workers} workers",
                    before,
                    effect=lambda: (self.registry.scale if more else self._end_workers)(before, workers),
                    effect_first=more,  # a server that the workers crash restarts without them
                )
            except (RadServeError, httpx.HTTPError):
                # TorchServe would restart a failed worker again and again. Others have started, and may have requests.
                if not await self._end_excess(before.pair) and before.pair not in self._excess:
                    task = observe(asyncio.create_task(self._retry_end_excess(before.pair)), "ending of workers")
                    self._excess[before.pair] = task
                    task.add_done_callback(lambda _: self._excess.pop(before.pair))
                raise
            return self.registered_version(name, version)

    async def _end_excess(self, pair: Pair) -> bool:
        """End the workers that a version has in addition to the declared ones; return whether it has none."""
        current, declared = self.registry.get(*pair), self.deployment_state.deployment.find(*pair)
        if current is None or declared is None or declared.workers is None or current.workers <= declared.workers:
            return True
        try:
            await self._end_workers(current, declared.workers)
        except (RadServeError, httpx.HTTPError, OSError):
            return False
        return True

    async def _retry_end_excess(self, pair: Pair) -> None:
        done = False
        while not done:
            await asyncio.sleep(_EXCESS_SECONDS)
            async with self._locks[pair[0]]:
                done = await self._end_excess(pair)

    async def _end_workers(self, before: ModelVersion, workers: int) -> None:
        """Reduce the number of workers while no request of the model is in progress."""
        name = before.entry.name
        async with self.gate.watched(name):
            await asyncio.sleep(self.unregistration.settle)  # until the bodies of earlier requests were received
            async with self.gate.closed(name) as opened:
                if not await self.registry.idle(before, _MAX_BUSY) or opened.is_set():
                    raise ConflictError(f"{before} was busy for {_MAX_BUSY:g} s; nothing was changed. Try again later.")
                await self.registry.scale(before, workers, opened.set)

    async def promote(self, name: str, version: str, actor: Actor) -> None:
        """Send all requests of a model to one version, without a rollout."""
        async with self.exclusive_change(name) as require:
            model_version = self.registered_version(name, version)
            versions = self.declared_versions(name)
            if versions[version].share == 100:
                return
            await self.registration.verify_sample(model_version)
            await self.deployment_state.commit(
                lambda state: state.with_shares(name, {version: 100.0}),
                actor,
                "promote",
                f"receives all requests; before, {main_version(versions)} did",
                model_version,
                require=require,
            )

    async def rollback(self, name: str, actor: Actor) -> None:
        """Send all requests of a model to the version that had them before; register it again if necessary.

        It waits for other changes of the model only if the version has no ready worker.
        """
        self._require_accepting()
        self._require_no_rollout(name)
        main = main_version(self.declared_versions(name))
        previous = await self._rollback_target(name)
        async with self._kept_if_declared(name, previous):
            model_version = await self._ready_version(name, previous)
            reason = f"rolled back by {actor.name}" + (f": {actor.reason}" if actor.reason else "")

            def require() -> None:
                self._require_no_rollout(name)
                state = self.deployment_state.state
                if (state.previous.get(name), main_version(self.declared_versions(name))) != (previous, main):
                    raise ConflictError(f"{name}: its versions were changed meanwhile; nothing was rolled back.")

            def change(state: State) -> State:
                rejected = self.registry.get(name, main)
                if previous not in state.versions(name):
                    state = _declare(model_version)(state)
                state = state.with_shares(name, {previous: 100.0})
                if rejected is None or rejected.pair == model_version.pair:
                    return state
                return state.with_quarantine(rejected.entry, reason)

            await self.deployment_state.commit(
                change,
                actor,
                "rollback",
                f"receives all requests; before, {main} did",
                model_version,
                require=require,
                act_first=True,
            )

    @asynccontextmanager
    async def _kept_if_declared(self, name: str, version: str) -> AsyncIterator[None]:
        """Keep the target of a rollback at its end; unregister it if the rollback failed and nothing else uses it."""
        pair = name, version
        try:
            with _change_errors(name):
                yield
        finally:
            model_version = self.registry.get(*pair)
            if self.deployment_state.deployment.find(*pair) is not None:
                await self.unregistration.cancel(pair)
            elif not (
                model_version is None
                or pair in self.unregistration
                or name in self.deployment_state.state.rollouts
                or self._locks[name].locked()  # another change may be registering it
            ):
                self.unregistration.start(model_version)

    async def _rollback_target(self, name: str) -> str:
        previous = self.deployment_state.state.previous.get(name)
        if previous is None:
            raise ConflictError(
                f"{name}: there is no previous version to roll back to; use 'radserve models promote {name} VERSION'."
            )
        if (name, previous) in await self.quarantine():
            raise ConflictError(
                f"{name}: the previous version {previous} is in quarantine, because it was rolled back; to use it "
                f"nevertheless, name it: 'radserve models promote {name} {previous}'."
            )
        return previous

    async def _ready_version(self, name: str, version: str) -> ModelVersion:
        """Return a version that answers its sample; keep it or register it if necessary."""
        await self.unregistration.cancel((name, version))
        model_version = self.registry.get(name, version)
        if model_version is not None and model_version.ready > 0:
            await self.registration.verify_response(model_version)
            if model_version.pair not in self.unregistration:
                return model_version
            return await self._ready_version(name, version)
        async with self.exclusive_change(name, recorded=False):
            model_version = self.registry.get(name, version)
            if model_version is None:
                return await self.register_candidate(name, version, None)
            await self.registration.verify_sample(model_version)
            return model_version

    async def quarantine(self) -> Mapping[Pair, QuarantineEntry]:
        """Return the archives of the model store that are in quarantine."""
        return await asyncio.to_thread(quarantine.read, self.deployment_state.state, self.registration.store)

    async def release(self, name: str, version: str, actor: Actor) -> None:
        """Lift the quarantine of a version, so that servers may select it as the newest one."""
        async with self.exclusive_change(name, by_rollout=True):
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
        async with self.exclusive_change(name) as require:
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
        requirements = {name: self._no_rollback_from_now(name) for name in wanted.models}
        for name in {change.model for change in changes}:
            self._require_no_rollout(name)
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
        async with self.exclusive_change(name):
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


@contextmanager
def _change_errors(name: str) -> Iterator[None]:
    """Turn an error of TorchServe or of the system into one of the change."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ChangeError(f"{name}: TorchServe failed to make the change: {error}") from error
    except OSError as error:  # a full run directory, for example
        raise ChangeError(f"{name}: the server failed to make the change: {error}.") from error


def _declare(model_version: ModelVersion) -> Callable[[State], State]:
    """Return the change that declares a version and its workers, with its present share."""
    name, version = model_version.pair

    def change(state: State) -> State:
        versions = state.versions(name)
        share = versions[version].share if version in versions else 0.0 if versions else 100.0
        state = state.with_version(name, version, DeployedVersion(share=share, workers=model_version.workers))
        return state.without_quarantine(name, version) if share > 0 else state

    return change
