"""A real gateway for tests: `radserve-gateway` as a process, before a server that runs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.front import await_listening
from tests.server import ROOT, Server, free_ports


@dataclass(frozen=True)
class Gateway:
    """A gateway that listens."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def gateway(server: Server, folder: Path, /, **settings: object) -> Iterator[Gateway]:
    """Start a gateway before a server; `settings` are named as `gateway.settings` has them."""
    port = settings.get("port") or free_ports(1)[0]
    chosen = {
        "port": port,
        "server": server.url,
        "supervisor": server.health_url,
        "history": f"sqlite:{folder / 'history.sqlite3'}",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RADSERVE", "PYTHONWARNINGS"))}
    variables = {f"RADSERVE_GATEWAY_{name.upper()}": str(value) for name, value in (chosen | settings).items()}
    log = folder / "gateway.log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], stderr=file, cwd=ROOT, env=clean | variables)
    try:
        if "socket" in settings:
            _await_socket(Path(str(settings["socket"])), process, log)
        else:
            await_listening(int(str(port)), process, log)
        yield Gateway(f"http://127.0.0.1:{port}", log, process)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_socket(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
