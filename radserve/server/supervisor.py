"""Starts TorchServe and the front, says when they are truly ready, and stops them without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from radserve.auth.keyring import Keyring
from radserve.host import listening_socket, run_directory
from radserve.host import process as child
from radserve.host.resources import WorkerPlan, cores, plan
from radserve.host.run_directory import RunDirectory
from radserve.proxy import options as front
from radserve.proxy.access_events import AccessEvents, TrafficWindow
from radserve.proxy.nginx import Nginx
from radserve.server import catalog
from radserve.server.asgi import AsgiServer
from radserve.server.banner import announcement
from radserve.server.drain import Drain
from radserve.server.health_api import Health
from radserve.server.options import Options
from radserve.torchserve import launch
from radserve.torchserve.management import Management
from radserve.torchserve.readiness import Readiness
from radserve.torchserve.registry import ModelRegistry, ModelVersion, WorkerStatus
from radserve.torchserve.verified_models import VerifiedModel, select
from radserve.versions.api import Api, application
from radserve.versions.deployment_state import DeploymentStateManager
from radserve.versions.registration import Registration
from radserve.versions.rollout_manager import Rollouts
from radserve.versions.routes import Routes
from radserve.versions.storage import StateFolder
from radserve.versions.torchserve_api import TorchServeApi
from radserve.versions.unregistration import Unregistration
from radserve.versions.version_manager import VersionManager
from radserve.versions.views import Views

logger = logging.getLogger("radserve.server.supervisor")


class Exit(enum.IntEnum):
    """Why the supervisor ended."""

    STOPPED = 0
    REFUSED = 1
    DIED = 3
    NOT_READY = 4
    UNFINISHED = 5
    FRONT_DIED = 6


class State(enum.Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"


async def serve(options: Options, announce: Callable[[str], None]) -> Exit:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    announce
        Called once, when the server is ready, with the text to show.

    Raises
    ------
    ArchiveError, KeysError, ServeError
        If nothing was started.
    """
    options.require_safe()
    keyring = Keyring.open(options.keys) if options.keys else None
    remembered = StateFolder(options.state_folder)
    served = select(options.store, _declared(remembered, options.models))
    for item in served:
        if item.recipe.warning is not None:
            logger.warning("%s %s: %s", item.entry.name, item.entry.version, item.recipe.warning)
    options.require_ports()
    shares = plan(len({item.entry.name for item in served}), cores(), options.workers)
    with run_directory.opened(options.runtime) as folder:
        folder.prepare()
        return await Supervisor(options, served, shares, folder, keyring, remembered).run(announce)


def _declared(remembered: StateFolder, models: Sequence[str]) -> Sequence[str]:
    """Return what is to be served: what the state says, if anything was ever changed, else what the options say."""
    found = remembered.state.deployment
    if found is None:
        return models
    declared = [f"{name}/{version}" for name, model in found.models.items() for version in model.versions]
    unknown = {name.partition("/")[0] for name in models} - set(found.models)
    if unknown:
        logger.warning(
            "--models names %s, but what is served was changed since, and %s says it: %s",
            ", ".join(sorted(unknown)),
            remembered.path,
            ", ".join(declared),
        )
    return declared


class Supervisor:
    """One run of TorchServe, and of the front before it."""

    def __init__(
        self,
        options: Options,
        served: Sequence[VerifiedModel],
        shares: WorkerPlan,
        folder: RunDirectory,
        keyring: Keyring | None,
        remembered: StateFolder,
    ) -> None:
        self._options = options
        self._served = served
        self._shares = shares
        self._runtime = folder
        self._keyring = keyring
        self._configured = options.configuration.read_text(encoding="utf-8")
        self._management = Management(folder)
        self._fleet = ModelRegistry(_members(served, remembered, shares), self._management, folder.busy)
        self._readiness = Readiness(self._fleet, options.address, lambda: self._changes.needed)
        ledger = DeploymentStateManager(self._fleet, remembered, Routes(folder))
        arrivals = Registration(
            self._fleet,
            ledger,
            self._readiness,
            store=options.store,
            source=options.source,
            scratch=folder.folder / "tmp",
            threads=shares.threads,
            patience=options.startup_timeout,
        )
        departures = Unregistration(self._fleet, ledger, settle=options.settle, patience=options.drain_timeout)
        self._changes = VersionManager(self._fleet, ledger, arrivals, departures, workers=shares.workers)
        window = TrafficWindow()
        self._traffic = AccessEvents(folder.traffic, window.add)
        self._rollouts = Rollouts(self._changes, window, options.address.url)
        self._listing = Views(self._changes, self._rollouts, self._fleet, options.address.metrics_url)
        self._front = Nginx(options.front, self._behind(), folder.front) if options.front else None
        self._stop = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self.state = State.STARTING
        self.detail = "TorchServe is starting."

    @property
    def crews(self) -> list[WorkerStatus]:
        """The workers of each archive, as last heard of."""
        crews = self._fleet.crews
        return [replace(crew, share=self._listing.share(crew.entry.name, crew.entry.version) / 100) for crew in crews]

    def catalog(self) -> dict[str, Any]:
        """Say what requests are answered by; a version that is still being tried is not among it."""
        return catalog.catalog(
            (
                member.entry.name,
                catalog.version(
                    member.entry, member.served.recipe, self._archive(member), self._listing.share(*member.pair)
                ),
            )
            for member in self._fleet
            if self._listing.open(member)
        )

    def member(self, name: str, version: str) -> tuple[Path, bytes] | None:
        """Return archive and sample of a version that is open to requests."""
        member = self._fleet.get(name, version)
        if member is None or not self._listing.open(member):
            return None
        return self._archive(member), member.served.sample

    def _archive(self, member: ModelVersion) -> Path:
        return self._options.store / member.entry.file

    @property
    def certificate(self) -> Path | None:
        """The certificate that a front serves, started by this or apart; None where TLS ends elsewhere."""
        return self._runtime.certificate if self._runtime.certificate.exists() else None

    async def run(self, announce: Callable[[str], None]) -> Exit:
        """Start, watch, drain and stop; see `serve`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if self._front is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload, self._front)
        health = Health(self._options.address.host, self._options.health_port, lambda: self, self._keyring)
        changes, rollouts = self._changes, self._rollouts
        api = Api(changes, rollouts, self._listing)
        torchserve_api = TorchServeApi(changes, self._management, self._options.store)
        control = application(*api.routes(), *torchserve_api.routes())
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(health)
            await stack.enter_async_context(self._traffic)
            await stack.enter_async_context(AsgiServer.on_socket(control, self._runtime.control))
            if self._keyring is not None:
                stack.callback(asyncio.create_task(self._keyring.watch()).cancel)
            stack.push_async_callback(self._management.close)
            stack.push_async_callback(self._readiness.close)
            if self._front is not None:  # first: until TorchServe is ready it answers 503, and /ready says why
                stack.push_async_callback(self._front.end)
                await self._front.start()
            process = await self._start()
            stack.push_async_callback(child.end, process)
            stack.push_async_callback(changes.finish)
            stack.push_async_callback(rollouts.stop)
            return await self._live(process, announce)

    def _behind(self) -> front.Upstreams:
        options = self._options
        host, own = options.address.host, options.address
        return front.Upstreams(
            torchserve=f"{host}:{own.port}",
            torchserve_metrics=f"{host}:{own.metrics_port}",
            supervisor=f"{host}:{options.health_port}",
            runtime=self._runtime,
            max_body=launch.max_request_size(self._configured),
            response_timeout=front.response_timeout(options.store / item.entry.file for item in self._served),
            drain_timeout=options.drain_timeout,
        )

    def _reload(self, nginx: Nginx) -> None:
        """SIGHUP: take a renewed certificate."""
        task = asyncio.ensure_future(nginx.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _start(self) -> asyncio.subprocess.Process:
        options, entries = self._options, [item.entry for item in self._served]
        configured = launch.configuration(
            self._configured, self._runtime, options.store, entries, options.address, self._shares
        )
        self._runtime.configuration.write_text(configured, encoding="utf-8")
        environment = launch.environment(self._runtime, options.store, configured, self._shares)
        return await child.start(launch.command(self._runtime), environment, self._runtime.folder)

    async def _live(self, process: asyncio.subprocess.Process, announce: Callable[[str], None]) -> Exit:
        died = asyncio.create_task(process.wait())
        closed = asyncio.create_task(self._front.wait()) if self._front else asyncio.create_task(_never())
        stop = asyncio.create_task(self._stop.wait())
        ready = asyncio.create_task(self._until_ready(process.pid))
        await asyncio.wait({died, closed, stop, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ready.result():
            return Exit.NOT_READY
        if ready.done():
            announce(announcement(self._served, self._options.address, self._options.health_port, self._options.front))
            watch = asyncio.create_task(self._watch())
            await asyncio.wait({died, closed, stop}, return_when=asyncio.FIRST_COMPLETED)
            watch.cancel()
        ready.cancel()
        if died.done():
            logger.error("TorchServe died with exit code %s", died.result())
            return Exit.DIED
        if closed.done():
            logger.error("nginx died with exit code %s, so nobody could ask any more", closed.result())
            return Exit.FRONT_DIED
        return await self._drain(process)

    async def _until_ready(self, pid: int) -> bool:
        deadline = time.monotonic() + self._options.startup_timeout
        while time.monotonic() < deadline:
            problem = await self._begin(pid)
            if problem is None:
                self.state, self.detail = State.READY, "Every worker is ready and every model answered its sample."
                self._runtime.ready.touch(mode=0o600)
                return True
            self.detail = problem
            await asyncio.sleep(0.1)
        logger.error("not ready after %g s: %s", self._options.startup_timeout, self.detail)
        return False

    async def _begin(self, pid: int) -> str | None:
        """Bring what has started to what is declared; say why that is not possible yet, or None."""
        try:
            await self._fleet.align()
            problem = await self._readiness.problem(infer=True)
            if problem is not None:
                return problem
            await self._changes.begin()
        except (httpx.HTTPError, OSError) as error:
            return f"TorchServe does not answer yet ({type(error).__name__})."
        self._close_grpc(pid)
        self._rollouts.resume()
        return None

    def _close_grpc(self, pid: int) -> None:
        """TorchServe cannot do without gRPC, by which anybody on this host could manage models: let nobody reach it."""
        address = self._options.address
        try:
            listening_socket.stop_listening_but(pid, {address.port, address.metrics_port})
        except OSError as error:
            logger.warning(
                "TorchServe's gRPC cannot be closed (%s): whoever is on this host can use it", error.strerror
            )

    async def _watch(self) -> None:
        """Keep /ready true: a worker that died is said, and so is its return.

        Seen twice, since load balancers take a server away for it: TorchServe's management may just be busy.
        """
        before: str | None = None
        while True:
            await asyncio.sleep(2.0)
            found = await self._readiness.problem(infer=False)
            problem, before = found if before is not None else None, found
            state = State.READY if problem is None else State.DEGRADED
            if state is not self.state:
                logger.warning("%s: %s", state.value, problem or "all workers are back")
            self.state = state
            self.detail = problem or "Every worker is ready."

    async def _drain(self, process: asyncio.subprocess.Process) -> Exit:
        """Say not ready, let load balancers hear of it, close the front, and finish what is in flight."""
        self.state, self.detail = State.DRAINING, "Stopping: requests in flight are being finished."
        logger.info("draining")
        await self._rollouts.stop()
        await self._changes.finish()
        await asyncio.sleep(self._options.drain_delay)
        seconds = self._options.drain_timeout
        answered = True
        if self._front is not None:
            begin = time.monotonic()
            answered = await self._front.quit(seconds)
            seconds = max(1.0, seconds - (time.monotonic() - begin))  # nothing is left but to see that nothing is left
        self._runtime.ready.unlink(missing_ok=True)  # a front that was started apart answers 503 from now on
        entries = [member.entry for member in self._fleet]
        drain = Drain(self._runtime, self._options.address, entries, self._management)
        try:
            finished = answered and await drain.run(process.pid, seconds)
        except httpx.HTTPError as error:
            logger.error("TorchServe no longer answers while draining: %r", error)  # noqa: TRY400 - no fault of this code
            return Exit.DIED
        if not finished:
            logger.error("still busy after %g s; stopping anyway", self._options.drain_timeout)
            return Exit.UNFINISHED
        logger.info("drained")
        return Exit.STOPPED


def _members(served: Sequence[VerifiedModel], remembered: StateFolder, shares: WorkerPlan) -> list[ModelVersion]:
    started = datetime.now(UTC).replace(microsecond=0)
    found = remembered.state.deployment
    members = []
    for item in served:
        declared = found.find(item.entry.name, item.entry.version) if found else None
        workers = declared.workers if declared else None
        members.append(ModelVersion(item, workers or shares.workers, started))
    return members


async def _never() -> int:
    await asyncio.Event().wait()
    raise AssertionError
