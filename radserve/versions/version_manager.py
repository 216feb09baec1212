"""What may be done to the versions that are served."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from radserve.errors import ChangeError, ConflictError, NotReadyError, NotServedError
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import deployment_spec as declared
from radserve.versions.audit_log import Actor
from radserve.versions.deployment_spec import Change, Deployment, Served
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.registration import Registration
from radserve.versions.storage import State, main_version, promoted, with_version, with_versions
from radserve.versions.unregistration import Unregistration


class VersionManager:
    """Changes versions, one change of a model at a time.

    Parameters
    ----------
    workers
        That a version gets where nobody says otherwise.

    Attributes
    ----------
    open
        Whether changes are let in: not before the server is ready, and not when it stops.
    """

    def __init__(
        self,
        fleet: ModelRegistry,
        ledger: DeploymentStateManager,
        arrivals: Registration,
        departures: Unregistration,
        *,
        workers: int,
    ) -> None:
        self._fleet = fleet
        self._arrivals = arrivals
        self._departures = departures
        self._workers = workers
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.ledger = ledger
        self.open = False

    @property
    def needed(self) -> list[ModelVersion]:
        """The versions that requests go to, without those that only stand by or are tried."""
        found = ((member, self.ledger.deployment.find(*member.pair)) for member in self._fleet)
        return [member for member, served in found if served is not None and served.share > 0]

    def leaving(self, pair: Pair) -> bool:
        """Whether a version is being taken away."""
        return pair in self._departures

    def member(self, name: str, version: str) -> ModelVersion:
        """Return a version that is served, stands by or is tried.

        Raises
        ------
        NotServed
            If it is not registered.
        """
        found = self._fleet.get(name, version)
        if found is None or self.leaving((name, version)):
            known = ", ".join(item.entry.version for item in self._fleet.of(name)) or "none"
            raise NotServedError(f"{name} {version} is not registered; of {name} there are: {known}.")
        return found

    def versions(self, name: str) -> dict[str, Served]:
        """Return what is declared of a model.

        Raises
        ------
        NotServed
            If it is not served.
        """
        found = self.ledger.deployment.models.get(name)
        if found is None:
            known = ", ".join(sorted(self.ledger.deployment.models)) or "none"
            raise NotServedError(f"{name} is not served; models are: {known}.")
        return found.versions

    async def begin(self) -> None:
        """Send requests where the state says, and let changes in.

        Raises
        ------
        httpx.HTTPError, OSError
            If that fails.
        """
        await self.ledger.follow()
        self.open = True

    async def finish(self) -> None:
        """Let in no more changes."""
        self.open = False
        await self._departures.stop()
        self.ledger.close()

    @asynccontextmanager
    async def changing(self, name: str, *, rollout: bool = False) -> AsyncIterator[None]:
        """Keep other changes of a model away.

        Parameters
        ----------
        rollout
            Whether a rollout of the model does it; nobody else may while there is one.

        Raises
        ------
        Unready, Conflict
            If nothing can be changed now.
        ChangeError
            If TorchServe does not do what it is told.
        """
        if not self.open:
            raise NotReadyError("The server is not ready, or is stopping: nothing can be changed now.")
        self.ledger.take()
        async with self._locks[name]:
            if not rollout:
                self._require_no_rollout(name)
            try:
                yield
            except httpx.HTTPError as error:
                raise ChangeError(f"{name}: TorchServe did not do what it was told ({error!r}).") from error

    def _require_no_rollout(self, name: str) -> None:
        found = self.ledger.state.rollouts.get(name)
        if found is not None:
            raise ConflictError(
                f"{name}: a rollout of {found.plan.version} is under way; give it up first "
                f"('radserve rollout {name} --abort')."
            )

    def require_front(self, name: str) -> None:
        """Refuse to split traffic where nothing could.

        Raises
        ------
        Conflict
            If no front stands before this server.
        """
        if not self.ledger.fronted:
            raise ConflictError(
                f"{name}: no nginx stands before this server, so its requests cannot be split; --front."
            )

    async def register(self, name: str, version: str, workers: int | None, by: Actor) -> ModelVersion:
        """Bring a version in; it stands by, or has all requests where it is the model's only one.

        Raises
        ------
        RadServeError
            If it is registered already, cannot be had, or does not do what it should.
        """
        async with self.changing(name):
            member = await self.bring(name, version, workers)
            try:
                await self.ledger.commit(self._declaring(member), by, "register", "is registered", member)
            except BaseException:
                await self._fleet.unregister(member)
                raise
        return member

    async def bring(
        self, name: str, version: str, workers: int | None, told: Callable[[str], None] = lambda _: None
    ) -> ModelVersion:
        """Bring a version in without declaring it; see `Arrivals.bring`."""
        if self.leaving((name, version)):
            raise ConflictError(f"{name} {version} is just being taken away; try again in a moment.")
        if self._fleet.get(name, version) is not None:
            raise ConflictError(f"{name} {version} is registered already.")
        return await self._arrivals.bring(name, version, workers or self._usual_workers(name), told)

    async def require_answers(self, member: ModelVersion) -> None:
        """Ask a version its sample; see `Arrivals.require_answers`."""
        await self._arrivals.require_answers(member)

    async def ready_workers(self, member: ModelVersion) -> int:
        """Count the workers of a version that can answer."""
        await self._fleet.refresh()
        found = self._fleet.get(*member.pair)
        return found.ready if found else 0

    async def scale(self, name: str, version: str, workers: int, by: Actor) -> ModelVersion:
        """Change the number of a version's workers.

        TorchServe ends a worker with the batch that it has in hand: those requests get 500.

        Raises
        ------
        ChangeError
            If it is not registered, or a new worker does not become ready.
        """
        async with self.changing(name):
            before = self.member(name, version)
            if before.workers == workers:
                return before
            member = await self._fleet.scale(before, workers)
            detail = f"has {workers} workers instead of {before.workers}"
            await self.ledger.commit(self._declaring(member), by, "scale", detail, member)
        return member

    async def promote(self, name: str, version: str, by: Actor, action: str = "promote") -> None:
        """Give a version all requests of its model, at once.

        Raises
        ------
        ChangeError
            If it is not registered, does not answer its sample, or a rollout is under way.
        """
        async with self.changing(name):
            member = self.member(name, version)
            versions = self.versions(name)
            if versions[version].share == 100:
                return
            await self.require_answers(member)
            before = main_version(versions)
            after = promoted(versions, version)
            detail = f"has all requests; before, {before} had them"
            await self.ledger.commit(self._sharing(name, after), by, action, detail, member)

    async def rollback(self, name: str, by: Actor) -> None:
        """Give all requests of a model back to the version that had them before.

        Raises
        ------
        RadServeError
            If there is none, or it does not do what it should any more.
        """
        self.versions(name)
        before = self.ledger.state.previous.get(name)
        if before is None:
            raise ConflictError(
                f"{name}: no version had its requests before; 'radserve models promote {name} VERSION'."
            )
        if self._fleet.get(name, before) is None:
            await self.register(name, before, None, by)
        await self.promote(name, before, by, "rollback")

    async def unregister(self, name: str, version: str, by: Actor, *, force: bool = False) -> None:
        """Take a version away, when it has answered all that it was asked.

        Raises
        ------
        Conflict
            If it has requests to answer (`force` takes away a model's only version all the same).
        """
        async with self.changing(name):
            member = self.member(name, version)
            self._require_dispensable(member, force=force)
            task = self._departures.begin(member)

            def change(state: State) -> State:
                return state.but(deployment=with_version(self.ledger.deployment, name, version, None))

            await self.ledger.commit(change, by, "unregister", "is unregistered", member)
        await asyncio.shield(task)

    def _require_dispensable(self, member: ModelVersion, *, force: bool) -> None:
        versions = self.versions(member.entry.name)
        if len(versions) == 1:
            if len(self.ledger.deployment.models) == 1:
                raise ConflictError(f"{member} is all that this server has; stop the server instead.")
            if not force:
                raise ConflictError(
                    f"{member} is the only version; --force (force=true) ends to serve {member.entry.name}."
                )
        elif versions[member.entry.version].share > 0:
            share = declared.percent(versions[member.entry.version].share)
            raise ConflictError(f"{member} has {share} of the requests; promote another version first.")

    def let_go(self, member: ModelVersion) -> None:
        """Take away a version that is not declared, in the background."""
        self._departures.begin(member)

    async def apply(self, want: Deployment, by: Actor) -> tuple[Change, ...]:
        """Make what is served match a deployment; return what was changed.

        Raises
        ------
        RadServeError
            At the first change that cannot be made; those before it stay made, and another `apply` goes on.
        """
        found = declared.changes(self.ledger.deployment, want)
        for name in {item.model for item in found}:
            self._require_no_rollout(name)
            if name in want.models and _is_split(want.models[name].versions):
                self.require_front(name)
        for item in found:
            served = want.find(item.model, item.version)
            if item.action == "register" and served is not None:
                await self.register(item.model, item.version, served.workers, by)
            elif item.action == "scale" and served is not None and served.workers is not None:
                await self.scale(item.model, item.version, served.workers, by)
        for name in dict.fromkeys(item.model for item in found if item.action == "share"):
            await self._share(name, want.models[name].versions, by)
        for item in found:
            if item.action == "unregister":
                await self.unregister(item.model, item.version, by, force=True)
        return found

    async def _share(self, name: str, wanted: dict[str, Served], by: Actor) -> None:
        async with self.changing(name):
            have = self.versions(name)
            for version, item in wanted.items():
                if item.share > have[version].share:
                    await self.require_answers(self.member(name, version))
            shares = {key: wanted[key].share if key in wanted else 0.0 for key in have}
            after = {key: item.model_copy(update={"share": shares[key]}) for key, item in have.items()}
            detail = "requests go to " + ", ".join(f"{key} {declared.percent(share)}" for key, share in shares.items())
            await self.ledger.commit(self._sharing(name, after), by, "share", detail, model=name)

    def _usual_workers(self, name: str) -> int:
        """Return as many workers as the model's main version has."""
        found = self.ledger.deployment.models.get(name)
        return (found.versions[main_version(found.versions)].workers if found else None) or self._workers

    def _declaring(self, member: ModelVersion) -> Callable[[State], State]:
        """Return the change by which a version is declared, or its workers are."""
        name, version = member.pair

        def change(state: State) -> State:
            have = self.ledger.deployment
            known = have.find(name, version)
            share = known.share if known else 0.0 if name in have.models else 100.0
            return state.but(deployment=with_version(have, name, version, Served(share=share, workers=member.workers)))

        return change

    def _sharing(self, name: str, after: dict[str, Served]) -> Callable[[State], State]:
        """Return the change by which a model's requests are shared out anew."""

        def change(state: State) -> State:
            have = self.ledger.deployment
            before = main_version(have.models[name].versions)
            previous = {} if before == main_version(after) else {name: before}
            return state.but(deployment=with_versions(have, name, after), previous=state.previous | previous)

        return change


def _is_split(versions: dict[str, Served]) -> bool:
    return sum(item.share > 0 for item in versions.values()) > 1
