"""Starts `radserve serve` as a child process on free ports, for benchmarks and tests."""

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from radserve.client import Client
from radserve.errors import ClientError, ServeError
from radserve.torchserve.fork_server import NAME

CHECKOUT: Final = Path(__file__).resolve().parent.parent
_LOG_TAIL: Final = 2000
_FIRST, _END = 10_000, 32_768
"""Below the ephemeral ports of Linux (net.ipv4.ip_local_port_range)."""
_PORTS: Final = itertools.chain(
    range(_FIRST + os.getpid() * 997 % (_END - _FIRST), _END), itertools.cycle(range(_FIRST, _END))
)


@dataclass(frozen=True)
class Launched:
    """A server that is ready.

    Attributes
    ----------
    url, health_url, metrics_url
        Base URLs of its three ports.
    process
        The supervisor, with its standard output as a pipe.
    seconds
        Time from start to ready.
    """

    url: str
    health_url: str
    metrics_url: str
    process: subprocess.Popen[str]
    seconds: float


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is a worker that runs: a fork or a fresh one, but no client that waits for a fork."""
    with suppress(psutil.NoSuchProcess):
        line = " ".join(process.cmdline())
        return process.name() == NAME or ("model_service_worker" in line and "fork_client" not in line)
    return False


def descendants(server: psutil.Process) -> list[psutil.Process]:
    """Return the processes below a server, and forks that a dead fork server has left, which run in the same folder."""
    children = server.children(recursive=True)
    folder = next(filter(None, map(_folder_of_java, children)), None)
    others = [process for process in psutil.process_iter() if process not in children]
    return children + [process for process in others if folder is not None and _is_fork(process, folder)]


def _folder_of_java(process: psutil.Process) -> Path | None:
    with suppress(psutil.Error, OSError):
        return Path(process.cwd()) if process.name() == "java" else None
    return None


def _is_fork(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return process.name() == NAME and Path(process.cwd()).is_relative_to(folder)
    return False


def workers(server: psutil.Process) -> list[psutil.Process]:
    """Return the workers of a server's process."""
    return [child for child in descendants(server) if is_worker(child)]


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback interface that are free at present.

    No outgoing connection takes one meanwhile, because they are below the range of ephemeral ports. Processes that run
    at the same time begin at different ones.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = next(_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


def command(store: Path, ports: list[int], *options: str) -> list[str]:
    """Return the command line of a server; `ports` are those of inference, health and metrics."""
    port, health, metrics = map(str, ports)
    arguments = [sys.executable, "-m", "radserve", "serve", "--model-store", str(store), "--port", port]
    return [*arguments, "--health-port", health, "--metrics-port", metrics, *options]


@contextmanager
def launch(
    store: Path, log: Path, *options: str, environment: Mapping[str, str] | None = None, patience: float = 120.0
) -> Iterator[Launched]:
    """Start a server, wait until it is ready, and stop it at the end of the block.

    Parameters
    ----------
    store
        Folder of the archives to serve.
    log
        File for its standard error.
    options
        Additional options of `radserve serve`.
    environment
        Environment of the server; that of this process by default.
    patience
        Seconds until it must be ready.

    Raises
    ------
    ServeError
        If it exits early or is not ready in time; the message contains the end of its log.
    """
    ports = free_ports(3)
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command(store, ports, *options),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=CHECKOUT,
            env=None if environment is None else dict(environment),
        )
    assert process.stdout is not None
    try:
        url, health_url, metrics_url = (f"http://127.0.0.1:{port}" for port in ports)
        with Client(health_url, timeout=5.0) as client:
            try:
                wait_until_ready(lambda: bool(client.ready(health_url)), process, start + patience)
            except RuntimeError as error:
                raise ServeError(f"{error} {_tail(log)}") from error
        yield Launched(url, health_url, metrics_url, process, time.monotonic() - start)
    finally:
        process.terminate()
        process.wait(timeout=90)
        process.stdout.close()


def wait_until_ready(is_ready: Callable[[], bool], process: subprocess.Popen[Any], deadline: float) -> None:
    """Poll a child process until it is ready; an unreachable server is not ready.

    Raises
    ------
    RuntimeError
        If the process exits, or is not ready by the deadline (`time.monotonic`).
    """
    while True:
        try:
            if is_ready():
                return
        except (OSError, ClientError):
            pass  # not listening yet
        if process.poll() is not None:
            raise RuntimeError(f"The server exited with code {process.returncode} before it was ready.")
        if time.monotonic() > deadline:
            raise RuntimeError("The server was not ready in time.")
        time.sleep(0.05)


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip() or "Its log is empty."
