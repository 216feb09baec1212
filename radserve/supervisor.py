"""Starts TorchServe, says when it is truly ready, and stops it without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from radserve import torchserve
from radserve.drain import Drain
from radserve.errors import ServeError
from radserve.hardware import Plan, cores, plan
from radserve.health import Health
from radserve.served import Served, select
from radserve.torchserve import Address, Management, Runtime

logger = logging.getLogger("radserve.supervisor")


class Exit(enum.IntEnum):
    """Why the supervisor ended."""

    STOPPED = 0
    REFUSED = 1
    DIED = 3
    NOT_READY = 4
    UNFINISHED = 5


class State(enum.Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"


@dataclass(frozen=True)
class Options:
    """What the operator may choose.

    Attributes
    ----------
    models
        Names, or NAME/VERSION; all of the store if empty.
    health_port
        Port of /live and /ready.
    workers
        Workers a model; by default as many as there are cores to share.
    startup_timeout, drain_timeout
        Seconds until a start has failed, and until a stop no longer waits for requests.
    """

    store: Path
    configuration: Path
    address: Address
    health_port: int
    models: Sequence[str] = ()
    workers: int | None = None
    startup_timeout: float = 120.0
    drain_timeout: float = 60.0


async def serve(options: Options, announce: Callable[[str], None]) -> Exit:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    announce
        Called once, when the server is ready, with the text to show.

    Raises
    ------
    ArchiveError, ServeError
        If nothing was started.
    """
    served = select(options.store, options.models)
    for item in served:
        if item.recipe.warning is not None:
            logger.warning("%s %s: %s", item.entry.name, item.entry.version, item.recipe.warning)
    address = options.address
    ports = {"--port": address.port, "--metrics-port": address.metrics_port, "--health-port": options.health_port}
    _require_free(address.host, ports)
    shares = plan(len(served), cores(), options.workers)
    with tempfile.TemporaryDirectory(prefix="radserve-") as folder:
        runtime = Runtime(Path(folder))
        runtime.prepare()
        return await Supervisor(options, served, shares, runtime).run(announce)


def _require_free(host: str, ports: Mapping[str, int]) -> None:
    """Refuse to start where somebody listens already; TorchServe would say so only in its log."""
    for option, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                message = f"{host}: port {port} is taken ({error.strerror}); choose another {option}."
                raise ServeError(message, Exit.REFUSED) from error


class Supervisor:
    """One run of TorchServe."""

    def __init__(self, options: Options, served: Sequence[Served], shares: Plan, runtime: Runtime) -> None:
        self._options = options
        self._served = served
        self._shares = shares
        self._runtime = runtime
        self._management = Management(runtime)
        self._client = httpx.AsyncClient(base_url=options.address.url, timeout=30.0)
        self._stop = asyncio.Event()
        self.state = State.STARTING
        self.detail = "TorchServe is starting."

    async def run(self, announce: Callable[[str], None]) -> Exit:
        """Start, watch, drain and stop; see `serve`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        health = Health(self._options.address.host, self._options.health_port, lambda: self)
        async with health:
            process = await self._start()
            try:
                return await self._live(process, announce)
            finally:
                await _end(process)
                await self._management.close()
                await self._client.aclose()

    async def _start(self) -> asyncio.subprocess.Process:
        base = self._options.configuration.read_text(encoding="utf-8")
        entries = [item.entry for item in self._served]
        configured = torchserve.configuration(
            base, self._runtime, self._options.store, entries, self._options.address, self._shares
        )
        self._runtime.configuration.write_text(configured, encoding="utf-8")
        return await asyncio.create_subprocess_exec(
            *torchserve.command(self._runtime),
            env=torchserve.environment(self._runtime, self._options.store, configured, self._shares),
            cwd=self._runtime.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            # A session of its own: Ctrl-C reaches the supervisor alone, which then drains.
            start_new_session=True,
            preexec_fn=torchserve.die_with_parent,
        )

    async def _live(self, process: asyncio.subprocess.Process, announce: Callable[[str], None]) -> Exit:
        died = asyncio.create_task(process.wait())
        stop = asyncio.create_task(self._stop.wait())
        ready = asyncio.create_task(self._until_ready())
        await asyncio.wait({died, stop, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ready.result():
            return Exit.NOT_READY
        if ready.done():
            announce(self._announcement())
            watch = asyncio.create_task(self._watch())
            await asyncio.wait({died, stop}, return_when=asyncio.FIRST_COMPLETED)
            watch.cancel()
        ready.cancel()
        if died.done():
            logger.error("TorchServe died with exit code %s", died.result())
            return Exit.DIED
        return await self._drain(process)

    async def _until_ready(self) -> bool:
        deadline = time.monotonic() + self._options.startup_timeout
        while time.monotonic() < deadline:
            problem = await self._problem(infer=True)
            if problem is None:
                self.state, self.detail = State.READY, "Every worker is ready and every model answered its sample."
                return True
            self.detail = problem
            await asyncio.sleep(0.1)
        logger.error("not ready after %g s: %s", self._options.startup_timeout, self.detail)
        return False

    async def _watch(self) -> None:
        """Keep /ready true: a worker that died is said, and so is its return."""
        while True:
            await asyncio.sleep(2.0)
            problem = await self._problem(infer=False)
            state = State.READY if problem is None else State.DEGRADED
            if state is not self.state:
                logger.warning("%s: %s", state.value, problem or "all workers are back")
            self.state = state
            self.detail = problem or "Every worker is ready."

    async def _problem(self, *, infer: bool) -> str | None:
        """Say why the server is not ready, or None."""
        try:
            for item in self._served:
                model = await self._management.describe(item.entry.name, item.entry.version)
                ready = torchserve.ready_workers(model)
                if ready < self._shares.workers:
                    return (
                        f"{item.entry.name} {item.entry.version}: {ready} of {self._shares.workers} workers are ready."
                    )
            for item in self._served if infer else ():
                problem = await self._ask_sample(item)
                if problem:
                    return problem
        except (httpx.HTTPError, OSError) as error:
            return f"TorchServe does not answer yet ({type(error).__name__})."
        return None

    async def _ask_sample(self, item: Served) -> str | None:
        response = await self._client.post(item.path, content=item.sample)
        if response.status_code != httpx.codes.OK:
            return f"{item.entry.name} {item.entry.version}: its sample was answered with {response.status_code}."
        found, wanted = response.json(), item.answer
        if found["model"]["sha256"] != item.entry.sha256 or found["label"] != wanted["label"]:
            return f"{item.entry.name} {item.entry.version}: its sample got another answer than when it was built."
        return None

    def _announcement(self) -> str:
        address = self._options.address
        first = self._served[0]
        lines = [f"RadServe is ready at {address.url}"]
        lines += [f"  {item.entry.name} {item.entry.version}  {item.recipe.title}" for item in self._served]
        lines += [
            f"  health {address.host}:{self._options.health_port}/ready   metrics {address.metrics_url}",
            "Try:",
            f"  curl -T archives/{first.entry.name}/{first.recipe.sample} {address.url}/predictions/{first.entry.name}",
        ]
        return "\n".join(lines)

    async def _drain(self, process: asyncio.subprocess.Process) -> Exit:
        """Say not ready, and finish what is in flight."""
        self.state, self.detail = State.DRAINING, "Stopping: requests in flight are being finished."
        logger.info("draining")
        entries = [item.entry for item in self._served]
        drain = Drain(self._runtime, self._options.address, entries, self._management)
        try:
            finished = await drain.run(process.pid, self._options.drain_timeout)
        except httpx.HTTPError as error:
            logger.error("TorchServe no longer answers while draining: %r", error)  # noqa: TRY400 - no fault of this code
            return Exit.DIED
        if not finished:
            logger.error("still busy after %g s; stopping anyway", self._options.drain_timeout)
            return Exit.UNFINISHED
        logger.info("drained")
        return Exit.STOPPED


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop TorchServe and every process that it started."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout=10.0)
        except TimeoutError:
            logger.warning("TorchServe did not stop within 10 s; it is killed")
            process.kill()
            await process.wait()
    _, alive = psutil.wait_procs(children, timeout=3.0)
    for child in alive:
        child.kill()
