"""Real proxy for tests: `radserve front` as a process, in front of a running server."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.server import free_ports
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from tests.authority import Authority, Pair
from tests.fake_supervisor import PATIENCE
from tests.server import ROOT, Server


@dataclass(frozen=True)
class Keys:
    """A keys file, and the text of one key per role."""

    file: Path
    texts: Mapping[str, str]


def make_keys(folder: Path) -> Keys:
    """Create a keys file with one key per role."""
    file = folder / "keys.json"
    return Keys(file, {role: key_file.create(file, f"test-{role}", [role]) for role in Role})


@dataclass(frozen=True)
class Proxy:
    """A listening proxy.

    Attributes
    ----------
    ca
        Authority of its certificate; None for plain HTTP.
    """

    url: str
    management_url: str
    metrics_url: str
    ca: Path | None
    keys: Keys
    access_log: Path
    log: Path
    process: subprocess.Popen[bytes]

    def client(self, role: str | None = "predict", url: str | None = None) -> httpx.Client:
        """Return a client with the key of a role; None sends no key."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.keys.texts[role]}"}
        verify = ssl.create_default_context(cafile=str(self.ca)) if self.ca else False
        return httpx.Client(base_url=url or self.url, headers=headers, verify=verify, timeout=30)

    def connect(self, url: str | None = None) -> socket.socket:
        """Connect to the port of the models or of `url`, with TLS if the proxy uses it."""
        address = urlsplit(url or self.url)
        plain = socket.create_connection((address.hostname, address.port), timeout=20)
        if self.ca is None:
            return plain
        return ssl.create_default_context(cafile=str(self.ca)).wrap_socket(plain, server_hostname=address.hostname)

    def lines(self) -> list[dict[str, Any]]:
        """Parse the access log."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def line(self, request: httpx.Response) -> dict[str, Any]:
        """Return the access-log entry of a request."""
        await_text(self.access_log, request.headers["x-request-id"])
        return next(line for line in self.lines() if line["request_id"] == request.headers["x-request-id"])


@contextmanager
def running_proxy(
    server: Server, runtime: Path, keys: Keys, folder: Path, tls: tuple[Authority, Pair] | None, *options: str
) -> Iterator[Proxy]:
    """Start a proxy for a server with the same keys and run directory."""
    ports = free_ports(4)
    arguments = {
        "--runtime": runtime,
        "--port": ports[0],
        "--management-port": ports[1],
        "--metrics-port-public": ports[2],
        "--health-port": urlsplit(server.health_url).port,
        "--metrics-port": ports[3],
        "--model-store": server.store,
        "--access-log": folder / "access.log",
    }
    if tls is not None:
        arguments |= {"--certificate": tls[1].certificate, "--certificate-key": tls[1].key}
    command = [str(word) for option in arguments.items() for word in option]
    log = folder / "proxy.log"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "radserve", "front", *command, *options], stderr=file, cwd=ROOT, env=environment
        )
    try:
        await_text(log, "proxy listening", process)
        scheme = "https" if tls else "http"
        url, management, metrics_url = (f"{scheme}://127.0.0.1:{port}" for port in ports[:3])
        ca = tls[0].root if tls else None
        yield Proxy(url, management, metrics_url, ca, keys, folder / "access.log", log, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def await_listening(port: int, process: subprocess.Popen[Any], log: Path) -> None:
    """Wait until a process listens on a port."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return


def await_text(log: Path, text: str, process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until a log contains a text."""
    deadline = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert process is None or process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def problem(response: httpx.Response, status: int) -> str:
    """Check that a response is problem details with this status, and return the detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert response.headers["server"] == "nginx"
    return str(document["detail"])


def answered(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Read a response until the connection is closed."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except OSError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}
