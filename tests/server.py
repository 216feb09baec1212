"""A real server for tests: `radserve serve` as a process, on free ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    url: str
    health_url: str
    metrics_url: str
    store: Path
    log: Path
    process: subprocess.Popen[str]

    def java(self) -> list[psutil.Process]:
        """List its Java."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.name() == "java"]

    def workers(self) -> list[psutil.Process]:
        """List its workers."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if any("model_service_worker" in word for word in child.cmdline())]

    def log_lines(self) -> list[dict[str, str]]:
        """Read the JSON lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def free_ports(count: int) -> list[int]:
    """Find free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def command(store: Path, ports: list[int], *options: str) -> list[str]:
    """Return the command line of a server."""
    port, health, metrics = map(str, ports)
    words = [sys.executable, "-m", "radserve", "serve", "--model-store", str(store), "--port", port]
    return [*words, "--health-port", health, "--metrics-port", metrics, *options]


@contextmanager
def running(store: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start a server, wait until it says that it is ready, stop it."""
    ports = free_ports(3)
    with log.open("w") as file:
        process = subprocess.Popen(
            command(store, ports, *options),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"},
        )
    assert process.stdout is not None
    try:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        _wait(process, urls[1], log)
        yield Server(urls[0], urls[1], urls[2] + "/metrics", store, log, process)
    finally:
        process.terminate()
        process.wait(timeout=90)
        process.stdout.close()


def _wait(process: subprocess.Popen[str], health: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{health}/ready", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())
