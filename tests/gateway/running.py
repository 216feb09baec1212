"""A real gateway for tests: uvicorn in a process of its own, before a server that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.settings import PREFIX
from radserve.launch import free_ports
from tests.server import ROOT, Server

_PATIENCE = 60.0
_COMMAND = "from gateway.cli import main; main()"


@dataclass(frozen=True)
class Gateway:
    """A gateway that is ready."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running(server: Server | None, **variables: str) -> Iterator[Gateway]:
    """Start a gateway, wait until it says that it is ready, stop it.

    Parameters
    ----------
    server
        The one that it asks; None where the variables say otherwise.
    variables
        Settings by their names in `gateway.settings`: `history="none"` (which is the default here).
    """
    (port,) = free_ports(1)
    behind = {} if server is None else {"server": server.url, "supervisor": server.health_url}
    chosen = {"history": "none", "port": str(port)} | behind | variables
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    environment.pop("PYTHONWARNINGS", None)
    environment |= {PREFIX + name.upper(): value for name, value in chosen.items()}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen([sys.executable, "-c", _COMMAND], stderr=file, cwd=ROOT, env=environment)
        gateway = Gateway(f"http://127.0.0.1:{port}", log, process)
        try:
            _await_ready(gateway)
            yield gateway
        finally:
            process.terminate()
            process.wait(timeout=30)


def _await_ready(gateway: Gateway) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _is_ready(gateway.url):
        said = gateway.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        assert gateway.process.poll() is None, f"the gateway ended before it was ready: {said}"
        assert time.monotonic() < deadline, f"the gateway was not ready in time: {said}"
        time.sleep(0.05)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
