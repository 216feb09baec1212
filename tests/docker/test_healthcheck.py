"""docker/healthcheck: finds the process of the container and its address."""

import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.server import free_ports
from tests.server import ROOT

# Serves like the image's entry point: on the port of its options or variables, or on a socket. `front` only listens.
SERVER = """
import http.server, os, socketserver, sys
address = os.environ["ADDRESS"]
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "client"
    def do_GET(self):
        self.send_response(200 if self.path == os.environ["EXPECTED"] else 503)
        self.end_headers()
        self.wfile.write(b"starting")
class Unix(socketserver.UnixStreamServer): pass
by_port = address.isdigit()
server = http.server.HTTPServer(("127.0.0.1", int(address)), Handler) if by_port else Unix(address, Handler)
server.serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder in place of /usr/local/bin."""
    shutil.copy2(ROOT / "docker" / "healthcheck", tmp_path / "healthcheck")
    for name in ("radserve", "radserve-gateway"):
        (tmp_path / name).write_text(SERVER)
    return tmp_path


@contextmanager
def started(folder: Path, script: str, *arguments: str, **variables: str) -> Iterator[None]:
    """Run an entry point."""
    command = [sys.executable, str(folder / script), *arguments]
    with subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def check(folder: Path, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """Run the healthcheck until it succeeds or the time is over, as the engine does."""
    deadline = time.monotonic() + seconds
    while True:
        process = subprocess.run([folder / "healthcheck"], capture_output=True, text=True, check=False, env={})
        if process.returncode == 0 or time.monotonic() > deadline:
            return process
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("script", "arguments", "variables", "expected"),
    [
        ("radserve", ["serve", "--health-port", "{port}", "--certificate", "x"], {}, "/ready"),
        ("radserve", ["serve", "--health-port={port}"], {"RADSERVE_HEALTH_PORT": "9"}, "/ready"),
        ("radserve", ["serve", "--host=0.0.0.0"], {"RADSERVE_HEALTH_PORT": "{port}"}, "/ready"),
        ("radserve", ["sagemaker", "--health-port", "{port}"], {}, "/ready"),
        ("radserve", ["front", "--host=0.0.0.0", "--port", "{port}"], {}, "nothing"),
        ("radserve-gateway", [], {"RADSERVE_GATEWAY_PORT": "{port}", "RADSERVE_GATEWAY_HOST": "0.0.0.0"}, "/live"),
        ("radserve-gateway", ["--port", "{port}"], {}, "/live"),
    ],
)
def test_changed_ports_are_found(
    folder: Path, script: str, arguments: list[str], variables: dict[str, str], expected: str
) -> None:
    (port,) = free_ports(1)
    parameters = [word.format(port=port) for word in arguments]
    values = {name: text.format(port=port) for name, text in variables.items()}
    with started(folder, script, *parameters, ADDRESS=str(port), EXPECTED=expected, **values):
        process = check(folder)
        assert process.returncode == 0, process.stderr


def test_gateway_on_a_socket_is_found(folder: Path) -> None:
    path = folder / "gateway.sock"
    with started(folder, "radserve-gateway", "--socket", str(path), ADDRESS=str(path), EXPECTED="/live"):
        process = check(folder)
        assert process.returncode == 0, process.stderr


def test_server_that_is_not_ready_is_unhealthy(folder: Path) -> None:
    (port,) = free_ports(1)
    with started(folder, "radserve", "serve", f"--health-port={port}", ADDRESS=str(port), EXPECTED="/other"):
        deadline = time.monotonic() + 20
        while "503" not in (process := check(folder, 0)).stderr:
            assert time.monotonic() < deadline, process.stderr
        assert process.returncode == 1
        assert process.stderr == "/ready: 503 starting\n"


def test_container_without_a_server_is_unhealthy(folder: Path) -> None:
    process = check(folder, 0)
    assert (process.returncode, process.stderr) == (1, "No radserve process is running.\n")


def test_other_server_on_the_default_port_does_not_count(folder: Path) -> None:
    (port,) = free_ports(1)
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with started(folder, "radserve", "serve", f"--health-port={port}", ADDRESS="0", EXPECTED="/ready"):
            time.sleep(0.5)
            assert check(folder, 0).returncode == 1
        other.shutdown()
