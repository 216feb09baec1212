"""Runs `radserve-gateway` as a process for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.settings import PREFIX
from radserve.client.discovery import require_listening
from tests.server import ROOT, Server, free_ports

_PATIENCE = 60.0


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def gateway(server: Server | None, folder: Path, /, **settings: object) -> Iterator[Gateway]:
    """Start a gateway, wait until it responds, stop it.

    Parameters
    ----------
    server
        Its model server; None if the settings configure another backend.
    folder
        Holds its log, and its history unless the settings configure another.
    settings
        Fields of `gateway.settings.Settings`, and `port` or `socket`.
    """
    (port,) = free_ports(1)
    urls = {} if server is None else {"server": server.url, "supervisor": server.health_url}
    values = {"port": port, "history": f"sqlite:{folder / 'history.sqlite3'}"} | urls | settings
    clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHONWARNINGS"))}
    variables = {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}
    log = folder / "gateway.log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], stderr=file, cwd=ROOT, env=clean | variables)
    started = Gateway(f"http://127.0.0.1:{values['port']}", log, process)
    try:
        _await_response(started, str(values.get("socket", "")))
        yield started
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_response(started: Gateway, socket: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket or None)) as client:
        while not _responds(client, started.url, socket):
            log = started.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            assert started.process.poll() is None, f"the gateway ended before it responded: {log}"
            assert time.monotonic() < deadline, f"the gateway did not respond in time: {log}"
            time.sleep(0.05)


def _responds(client: httpx.Client, url: str, socket: str) -> bool:
    try:
        if socket:
            require_listening(Path(socket))  # httpcore leaks a socket if the connection fails
        return client.get(f"{url}/live", timeout=5).status_code == 200
    except (httpx.TransportError, OSError):
        return False
