"""A real gateway for tests: `radserve-gateway` as a process, before a server that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from radserve.launch import free_ports
from tests.front import await_listening
from tests.server import ROOT, Server


@dataclass(frozen=True)
class Gateway:
    """A gateway that listens."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def gatewayed(server: Server, folder: Path, variables: Mapping[str, object] | None = None) -> Iterator[Gateway]:
    """Start a gateway before a server; `variables` are its settings, without their prefix."""
    (port,) = free_ports(1)
    chosen = {
        "SERVER": server.url,
        "SUPERVISOR": server.health_url,
        "PORT": port,
        "HISTORY": f"sqlite:{folder}/history",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment |= {f"RADSERVE_GATEWAY_{name}": str(value) for name, value in (chosen | dict(variables or {})).items()}
    log = folder / "gateway.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", "from gateway.cli import main; main()"], stderr=file, cwd=ROOT, env=environment
        )
    try:
        await_listening(port, process, log)
        yield Gateway(f"http://127.0.0.1:{port}", log, process)
    finally:
        process.terminate()
        process.wait(timeout=30)
