"""A server of one's own: `radserve serve` as a child process on free ports, for measurements and tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from radserve.client import Client
from radserve.errors import ClientError, ServeError

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_LAST_WORDS: Final = 2000


@dataclass(frozen=True)
class Launched:
    """A server that is ready.

    Attributes
    ----------
    url, health_url, metrics_url
        Base URLs of its three ports.
    process
        The supervisor; what it announces is on its standard output.
    seconds
        From its start until it was ready.
    """

    url: str
    health_url: str
    metrics_url: str
    process: subprocess.Popen[str]
    seconds: float


def free_ports(count: int) -> list[int]:
    """Find different ports of the loopback on which nobody listens at present."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def command(store: Path, ports: list[int], *options: str) -> list[str]:
    """Return the command line of a server; `ports` are those of inference, health and metrics."""
    port, health, metrics = map(str, ports)
    words = [sys.executable, "-m", "radserve", "serve", "--model-store", str(store), "--port", port]
    return [*words, "--health-port", health, "--metrics-port", metrics, *options]


@contextmanager
def launch(
    store: Path, log: Path, *options: str, environment: Mapping[str, str] | None = None, patience: float = 120.0
) -> Iterator[Launched]:
    """Start a server, wait until it says that it is ready, and stop it in the end.

    Parameters
    ----------
    store
        Folder of the archives to serve.
    log
        File for its log.
    options
        Further options of `radserve serve`.
    environment
        Of the server, instead of this process' own.
    patience
        Seconds until it must be ready.

    Raises
    ------
    ServeError
        If it ends before it is ready, or is not ready in time; with the end of its log.
    """
    ports = free_ports(3)
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command(store, ports, *options),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=_CHECKOUT,
            env=None if environment is None else dict(environment),
        )
    assert process.stdout is not None
    try:
        url, health_url, metrics_url = (f"http://127.0.0.1:{port}" for port in ports)
        _await_ready(process, health_url, log, start + patience)
        yield Launched(url, health_url, metrics_url, process, time.monotonic() - start)
    finally:
        process.terminate()
        process.wait(timeout=90)
        process.stdout.close()


def _await_ready(process: subprocess.Popen[str], health_url: str, log: Path, deadline: float) -> None:
    with Client(health_url, timeout=5.0) as client:
        while not _is_ready(client, health_url):
            if process.poll() is not None:
                raise ServeError(f"The server ended with {process.returncode} before it was ready: {_end(log)}")
            if time.monotonic() > deadline:
                raise ServeError(f"The server was not ready in time: {_end(log)}")
            time.sleep(0.05)


def _is_ready(client: Client, health_url: str) -> bool:
    try:
        return bool(client.ready(health_url))
    except ClientError:
        return False


def _end(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:].strip() or "its log is empty."
