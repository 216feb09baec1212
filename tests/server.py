"""A real server for tests: `radserve serve` as a process, on free ports."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.server import command, free_ports, launch

__all__ = ["ROOT", "Server", "command", "free_ports", "running"]

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


@contextmanager
def running(store: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start a server, wait until it says that it is ready, stop it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    with launch(store, log, *options, environment=environment) as found:
        yield Server(found.url, found.health_url, found.metrics_url + "/metrics", store, log, found.process)
