"""What is declared, and that everything follows it: state, audit log, TorchServe's defaults, the front's tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import httpx

from handlers.errors import RadServeError
from radserve.errors import ChangeError
from radserve.torchserve.registry import ModelRegistry, ModelVersion, Pair
from radserve.versions import deployment_spec as declared
from radserve.versions.audit_log import Actor, Audit
from radserve.versions.deployment_spec import Deployment
from radserve.versions.routes import Routes
from radserve.versions.storage import State, StateFolder, main_version

logger = logging.getLogger(__name__)


class DeploymentStateManager:
    """Records changes and brings them about.

    Attributes
    ----------
    audit
        The log of all changes.
    """

    def __init__(self, fleet: ModelRegistry, folder: StateFolder, routes: Routes) -> None:
        self._fleet = fleet
        self._folder = folder
        self._routes = routes
        self._initial = initial(fleet)
        self._defaults: dict[str, str] = {}
        self._following = asyncio.Lock()
        self.audit = Audit(folder.path)

    @property
    def state(self) -> State:
        """What would survive a restart."""
        return self._folder.state

    @property
    def deployment(self) -> Deployment:
        """What is served."""
        return self.state.deployment or self._initial

    @property
    def fronted(self) -> bool:
        """Whether a front stands before this server, so that traffic can be split."""
        return self._routes.fronted

    def take(self) -> None:
        """Have the state for this server alone.

        Raises
        ------
        ChangeError
            If it cannot be written, or another server has it.
        """
        self._folder.take()

    def close(self) -> None:
        """Let another server have it."""
        self._folder.close()

    async def commit(
        self,
        change: Callable[[State], State],
        by: Actor,
        action: str,
        detail: str,
        member: ModelVersion | None = None,
        *,
        model: str = "",
        version: str | None = None,
    ) -> None:
        """Record a change of one model, then do it; what cannot be done is taken back, and that is recorded as well.

        Who is cancelled meanwhile is so afterwards: a change is never half done.

        Parameters
        ----------
        change
            From the state to the one after.
        detail
            What happens, as the rest of a sentence that begins with model and version.
        member
            The version; or its name and number, where TorchServe does not hold it.

        Raises
        ------
        ChangeError
            If it cannot be recorded or done.
        """
        if member is not None:
            model, version = member.pair
        sha256 = member.entry.sha256 if member else None

        def record(who: Actor, sentence: str) -> None:
            self.audit.write(who, action, sentence, model=model, version=version, sha256=sha256)

        sentence = f"{model} {version}: {detail}." if version else f"{model}: {detail}."
        task = asyncio.ensure_future(self._commit(change, model, by, sentence, record))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _commit(
        self,
        change: Callable[[State], State],
        model: str,
        by: Actor,
        sentence: str,
        record: Callable[[Actor, str], None],
    ) -> None:
        self.take()
        record(by, sentence)
        before = self.state.model_copy(update={"deployment": self.deployment})
        self._folder.write(change(before))
        try:
            await self.follow()
        except (httpx.HTTPError, RadServeError, OSError) as error:
            record(Actor("server"), f"{sentence} That failed, and is taken back: {error}")
            self._folder.write(self.state.undone(before, model))
            await self.follow()
            raise ChangeError(f"{sentence} That failed, and nothing is changed: {error}") from error
        logger.info("%s (%s%s)", sentence, by.actor, f": {by.reason}" if by.reason else "")

    async def follow(self) -> None:
        """Make TorchServe's default versions and the front's tables what is declared.

        Raises
        ------
        httpx.HTTPError, OSError
            If TorchServe does not do it, or a table cannot be written.
        """
        async with self._following:
            for name, model in self.deployment.models.items():
                main = main_version(model.versions)
                member = self._fleet.get(name, main)
                if member is not None and self._defaults.get(name) != main:
                    await self._fleet.make_default(member)
                    self._defaults[name] = main
            # A restart goes on with a rollout, but its version has first to be there and to answer again.
            registered = {
                name: item
                for name, item in self.state.rollouts.items()
                if self._fleet.get(name, item.plan.version) is not None
            }
            self._routes.follow(self.deployment, registered)

    @asynccontextmanager
    async def closed(self, pair: Pair) -> AsyncIterator[None]:
        """Keep clients from asking a version by its path, where a front stands before this server."""
        self._routes.close(pair)
        await self.follow()
        try:
            yield
        finally:
            self._routes.reopen(pair)
            await self.follow()

    def forget_default(self, pair: Pair) -> None:
        """Know no more that TorchServe's default is a version that was taken away."""
        if self._defaults.get(pair[0]) == pair[1]:
            del self._defaults[pair[0]]


def initial(members: Iterable[ModelVersion]) -> Deployment:
    """Declare what a server has that was started by its options: the newest version of each name has its requests.

    Parameters
    ----------
    members
        The oldest version of a name first.
    """
    models: dict[str, dict[str, declared.Served]] = {}
    for member in members:
        versions = models.setdefault(member.entry.name, {})
        for key, item in versions.items():
            versions[key] = item.model_copy(update={"share": 0.0})
        versions[member.entry.version] = declared.Served(share=100.0, workers=member.workers)
    return Deployment(models={name: declared.Versions(versions=versions) for name, versions in models.items()})
