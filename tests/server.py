"""Real server for tests: `radserve serve` as a process on free ports."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.server import command, descendants, free_ports, launch, workers

__all__ = ["ROOT", "Server", "command", "free_ports", "running"]

_DEFAULTS = {"RADSERVE_WORKERS": "1", "RADSERVE_DOMAIN": "off"}

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A ready server."""

    url: str
    health_url: str
    metrics_url: str
    store: Path
    log: Path
    process: subprocess.Popen[str]

    def java(self) -> list[psutil.Process]:
        """Return the Java process."""
        return [child for child in descendants(psutil.Process(self.process.pid)) if child.name() == "java"]

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        return workers(psutil.Process(self.process.pid))

    def management_socket(self) -> str:
        """Return the path of the socket of TorchServe's management API."""
        (java,) = self.java()
        folder = next(word.partition("=")[2] for word in java.cmdline() if "java.io.tmpdir" in word)
        return f"{folder.removesuffix('/tmp')}/management.sock"

    def log_lines(self) -> list[dict[str, str]]:
        """Parse the JSON lines of the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def running(store: Path, log: Path, *options: str) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it in the end.

    Each model has one worker, because another one imports torch too; a test of more sets --workers. Images are
    not compared with the training images, because generated ones differ from them in a way that changes when a detector
    is fitted again; a test of the comparison sets --domain.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    with launch(store, log, *options, environment=environment | _DEFAULTS) as launched:
        yield Server(launched.url, launched.health_url, launched.metrics_url + "/metrics", store, log, launched.process)
