"""moto's AWS as a separate process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.server import free_ports
from tests.server import ROOT


@contextmanager
def running(module: str, path: str, folder: Path) -> Iterator[str]:
    """Run a module that serves AWS on a port, with its log in a folder; return its URL once it answers at a path."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(port)], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, f"{url}/{path}")
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None, "moto's server stopped"
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("moto's server did not start")
