"""Tests of a server that is killed during a rollout and restarted."""

import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from benchmarks.server import free_ports
from tests.e2e.test_proxy_life import published
from tests.proxy import Keys
from tests.repack import FILM, NAME
from tests.server import ROOT, command
from tests.versions import PATH, add, copied

pytestmark = pytest.mark.e2e


class Run:
    """One run of a server, on the same ports and folders as the run before."""

    def __init__(self, command: list[str], folder: Path, ports: list[int], key: str) -> None:
        self.url, self._health = (f"http://127.0.0.1:{port}" for port in ports[:2])
        self._headers = {"X-API-Key": key}
        self._socket = folder / "runtime" / "control.sock"
        with (folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"{self._health}/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)

    def control(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket)), base_url="http://radserve", timeout=60
        )

    def ask(self) -> str:
        response = httpx.post(self.url + PATH, content=FILM, headers=self._headers, timeout=60)
        assert response.status_code == 200, response.text
        return str(response.json()["model"]["version"])

    def await_share(self, share: float) -> None:
        """Send requests until a rollout has reached a share, since a step needs requests."""
        deadline = time.monotonic() + 120
        with self.control() as control:
            while control.get(f"/rollouts/{NAME}").json()["share"] != share:
                assert time.monotonic() < deadline
                self.ask()
                time.sleep(0.1)


def await_gone(ports: list[int]) -> None:
    """Wait until no port is listening."""
    deadline = time.monotonic() + 60
    for port in ports:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}", timeout=5)
            except httpx.ConnectError:
                break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_killed_server_serves_the_declared_versions_and_resumes_the_rollout(
    store: Path, keys: Keys, tmp_path: Path
) -> None:
    own = copied(store, tmp_path / "store")
    add(own, "1.1.0")
    ports = free_ports(3)
    options = published("--keys", str(keys.file), "--access-log", str(tmp_path / "access.log"), "--workers", "1")
    options += ("--runtime", str(tmp_path / "runtime"), "--models", f"{NAME}/1.0.0")
    arguments = command(own, ports, *options)
    first = Run(arguments, tmp_path, ports, keys.texts["predict"])
    try:
        first.await_ready()
        plan = {"version": "1.1.0", "steps": [30, 100], "step_seconds": 3600, "min_requests": 1, "max_slowdown": None}
        with first.control() as control:
            assert control.post(f"/rollouts/{NAME}", json=plan).status_code == 202
        first.await_share(30)
    finally:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    await_gone([ports[0], ports[2]])
    second = Run(arguments, tmp_path, ports, keys.texts["predict"])
    try:
        second.await_ready()
        # The stable version answers while the candidate is registered again.
        assert second.ask() == "1.0.0"
        with second.control() as control:
            document = control.get(f"/rollouts/{NAME}").json()
            assert (document["version"], document["before"], document["done"]) == ("1.1.0", "1.0.0", False)
            assert control.get("/deployment").json() == {
                "models": {NAME: {"versions": {"1.0.0": {"share": 100, "workers": 1}}}}
            }
        second.await_share(30)
        assert {second.ask() for _ in range(60)} == {"1.0.0", "1.1.0"}
        with second.control() as control:
            aborted = control.delete(f"/rollouts/{NAME}", params={"reason": "enough"}).json()
            assert aborted["phase"] == "rolled_back"
            assert "enough" in aborted["detail"]
        assert {second.ask() for _ in range(20)} == {"1.0.0"}
    finally:
        second.process.terminate()
        assert second.process.wait(timeout=60) == 0
