"""A real gateway for tests: `radserve-gateway` as a process, before a server that runs."""

from __future__ import annotations

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
    """A gateway that listens."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def gateway(server: Server | None, folder: Path, /, **settings: object) -> Iterator[Gateway]:
    """Start a gateway, wait until it answers, stop it.

    Parameters
    ----------
    server
        The one that it asks; None where the settings say otherwise.
    folder
        For its log, and for its history where the settings name no other.
    settings
        As `gateway.settings` names them, and `port` or `socket`.
    """
    (port,) = free_ports(1)
    behind = {} if server is None else {"server": server.url, "supervisor": server.health_url}
    chosen = {"port": port, "history": f"sqlite:{folder / 'history.sqlite3'}"} | behind | settings
    clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "PYTHONWARNINGS"))}
    variables = {f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()}
    log = folder / "gateway.log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], stderr=file, cwd=ROOT, env=clean | variables)
    started = Gateway(f"http://127.0.0.1:{chosen['port']}", log, process)
    try:
        _await_answers(started, str(chosen.get("socket", "")))
        yield started
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_answers(started: Gateway, socket: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket or None)) as client:
        while not _answers(client, started.url, socket):
            said = started.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            assert started.process.poll() is None, f"the gateway ended before it answered: {said}"
            assert time.monotonic() < deadline, f"the gateway did not answer in time: {said}"
            time.sleep(0.05)


def _answers(client: httpx.Client, url: str, socket: str) -> bool:
    try:
        if socket:
            require_listening(Path(socket))  # httpcore would leave its end open where nobody does
        return client.get(f"{url}/live", timeout=5).status_code == 200
    except (httpx.TransportError, OSError):
        return False
