"""The server of a soak test, and what happens to it: changes of versions, and killed processes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from benchmarks.server import CHECKOUT, descendants, is_worker
from benchmarks.soak.traffic import CANDIDATE, NAME, STABLE, Traffic
from radserve.client import Client
from radserve.client.control import Control
from radserve.errors import ClientError
from radserve.schema.rollout import RolloutSpec

CHANGES: Final = (
    "registration",
    "promotion",
    "rollback",
    "unregistration",
    "rollout",
    "scaling up",
    "scaling down",
    "killed worker",
)
FAILURES: Final = ("killed nginx", "killed supervisor")
WORKERS: Final = 2
_PATIENCE: Final = 180.0
"""Seconds in which the server must recover from a killed process."""
_PERIOD: Final = 1.0
"""Seconds between two measurements of memory, and before an exited server is started again."""


@dataclass(frozen=True)
class Usage:
    """Memory in MB (RSS) and open files of the processes of a server, by kind.

    Workers are averaged, because their number changes; others are added.
    """

    time: float
    supervisor: int
    memory: dict[str, float]
    files: dict[str, float]


class Server:
    """Keeps `radserve serve` running, as a service manager does, and measures its processes every second.

    Attributes
    ----------
    exits
        Time and exit code of each unrequested end of the supervisor.
    usage
        Measurements.
    stopped
        Exit code after SIGTERM at the end.
    """

    def __init__(self, command: Sequence[str], log: Path, url: str) -> None:
        self._command, self._log, self._url = command, log, url
        self._stopping = threading.Event()
        self.exits: list[tuple[float, int]] = []
        self.usage: list[Usage] = []
        self.stopped: int | None = None
        self._process = self._start()
        self._threads = [threading.Thread(target=target) for target in (self._restart, self._measure)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._process.terminate()
        for thread in self._threads:
            thread.join()
        self.stopped = self._process.wait(timeout=90)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log, cwd=CHECKOUT)

    def _restart(self) -> None:
        while not self._stopping.wait(_PERIOD / 10):
            if (code := self._process.poll()) is not None:
                self.exits.append((time.monotonic(), code))
                self._stopping.wait(_PERIOD)
                if not self._stopping.is_set():
                    self._process = self._start()

    def _measure(self) -> None:
        while not self._stopping.wait(_PERIOD):
            with suppress(psutil.Error):
                self.usage.append(self._usage())

    def _usage(self) -> Usage:
        pid = self._process.pid
        memory: dict[str, list[float]] = {}
        files: dict[str, list[float]] = {}
        for kind, processes in (self.processes() | {"supervisor": [psutil.Process(pid)]}).items():
            memory[kind] = [process.memory_info().rss / 1e6 for process in processes]
            files[kind] = [process.num_fds() for process in processes]
        return Usage(time.monotonic(), pid, _combined(memory), _combined(files))

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the processes below the supervisor by kind: java, nginx (its master first), worker."""
        kinds: dict[str, list[psutil.Process]] = {}
        with suppress(psutil.NoSuchProcess):
            for process in descendants(psutil.Process(self._process.pid)):
                with suppress(psutil.NoSuchProcess):
                    kinds.setdefault("worker" if is_worker(process) else process.name(), []).append(process)
        return {kind: kinds[kind] for kind in ("java", "nginx", "worker") if kind in kinds}

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone."""
        self._process.kill()

    def await_ready(self) -> None:
        """Wait until the proxy reports a ready server.

        Raises
        ------
        TimeoutError
            If that takes too long.
        """

        def ready() -> bool:
            with suppress(ClientError), Client(self._url, retries=0, timeout=5.0) as client:
                return bool(client.ready())
            return False

        await_true(ready, "the server is ready")


def _combined(values: dict[str, list[float]]) -> dict[str, float]:
    return {kind: sum(items) / (len(items) if kind == "worker" else 1) for kind, items in values.items()}


def await_true(condition: Callable[[], bool], description: str) -> None:
    """Poll a condition.

    Raises
    ------
    TimeoutError
        If it is false for too long.
    """
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"After {_PATIENCE:g} s it is still untrue that {description}.")
        time.sleep(0.1)


@dataclass(frozen=True)
class Event:
    """Something that happened to the server from `begin` to `end`, after `quiet` seconds without an event.

    `error` is empty if it succeeded.
    """

    kind: str
    begin: float
    end: float
    quiet: float
    error: str


class Schedule:
    """Makes events happen one after the other.

    Attributes
    ----------
    events
        Events that have ended.
    """

    def __init__(self, server: Server, traffic: Traffic, control: Callable[[], Control], quiet: float) -> None:
        self._server, self._traffic, self._control, self._quiet = server, traffic, control, quiet
        self.events: list[Event] = []
        self._actions: dict[str, Callable[[], None]] = {
            "registration": self._register,
            "promotion": self._promote,
            "rollback": self._roll_back,
            "unregistration": self._unregister,
            "rollout": self._roll_out,
            "scaling up": lambda: self._scale(WORKERS + 1),
            "scaling down": self._scale_down,
            "killed worker": self._kill_worker,
            "killed nginx": self._kill_nginx,
            "killed supervisor": self._kill_supervisor,
        }

    def run(self, kinds: Sequence[str], more: Callable[[], bool]) -> None:
        """Run the changes among `kinds` once, and again while there is `more` to do; then the failures."""
        rollout = CHANGES.index("rollout") + 1
        cycle = [*CHANGES[:rollout], "rollback", "unregistration", *CHANGES[rollout:]]
        while True:
            for kind in cycle:
                if kind in kinds:
                    self._happen(kind)
            if not more():
                break
        for kind in FAILURES:
            if kind in kinds:
                self._happen(kind)
        time.sleep(self._quiet)

    def _happen(self, kind: str) -> None:
        time.sleep(self._quiet)
        begin, error = time.monotonic(), ""
        try:
            self._actions[kind]()
        except (ClientError, TimeoutError, psutil.Error, KeyError, RuntimeError) as failure:
            error = f"{type(failure).__name__}: {failure}"
            self._traffic.allow(STABLE, CANDIDATE)
        self.events.append(Event(kind, begin, time.monotonic(), self._quiet, error))

    def _register(self) -> None:
        with self._control() as control:
            control.register(NAME, CANDIDATE, WORKERS, "soak")

    def _promote(self) -> None:
        with self._traffic_moves_to(CANDIDATE), self._control() as control:
            control.promote(NAME, CANDIDATE, "soak")

    def _roll_back(self) -> None:
        with self._traffic_moves_to(STABLE), self._control() as control:
            control.rollback(NAME, "soak")

    def _roll_out(self) -> None:
        spec = RolloutSpec(version=CANDIDATE, steps=(20, 100), step_seconds=3, max_slowdown=None, reason="soak")
        with self._traffic_moves_to(CANDIDATE), self._control() as control:
            control.start(NAME, spec)
            await_true(lambda: control.rollout(NAME).done, "the rollout has ended")
            if not (status := control.rollout(NAME)).succeeded:
                raise RuntimeError(status.detail)

    def _unregister(self) -> None:
        with self._control() as control:
            control.unregister(NAME, CANDIDATE, "soak", force=False)

    def _scale(self, workers: int) -> None:
        with self._control() as control:
            control.scale(NAME, STABLE, workers, "soak")

    def _scale_down(self) -> None:
        with self._pressure():
            self._scale(WORKERS)

    def _kill_worker(self) -> None:
        workers = self._server.processes()["worker"]
        with self._pressure():
            workers[0].kill()
        with self._control() as control:

            def replaced() -> bool:
                ready = sum(version.workers.ready for version in control.model(NAME).versions)
                return ready == len(self._server.processes().get("worker", [])) == len(workers)

            await_true(replaced, "the killed worker is replaced")

    def _kill_nginx(self) -> None:
        with self._pressure():
            self._server.processes()["nginx"][0].kill()
        self._server.await_ready()

    def _kill_supervisor(self) -> None:
        with self._pressure():
            self._server.kill_supervisor()
        self._server.await_ready()

    @contextmanager
    def _pressure(self) -> Iterator[None]:
        """Keep the workers busy from half a second before the block until half a second after it."""
        with self._traffic.full_speed():
            time.sleep(0.5)
            yield
            time.sleep(0.5)

    @contextmanager
    def _traffic_moves_to(self, version: str) -> Iterator[None]:
        self._traffic.allow(STABLE, CANDIDATE)
        yield
        self._traffic.allow(version)
