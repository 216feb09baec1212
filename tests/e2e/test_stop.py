"""Stop of a real server: accepted requests, processes and exit codes."""

import base64
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.repack import FILM, NAME
from tests.server import Server, running

pytestmark = pytest.mark.e2e


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return not alive


class Clients:
    """Sixteen clients that post one slow request each and record its outcome."""

    def __init__(self, server: Server) -> None:
        self.statuses: list[int | str] = []
        body = {"instances": [{"b64": base64.b64encode(FILM).decode()}] * 24}
        url = f"{server.url}/predictions/{NAME}"

        def ask() -> None:
            try:
                response = httpx.post(url, json=body, timeout=60)
                answered = len(response.json().get("predictions", []))
                complete = response.status_code != httpx.codes.OK or answered == 24
                self.statuses.append(response.status_code if complete else "incomplete")
            except httpx.HTTPError as error:
                self.statuses.append(repr(error))

        self.threads = [threading.Thread(target=ask) for _ in range(16)]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> list[int | str]:
        for thread in self.threads:
            thread.join()
        return self.statuses


def accepted(server: Server) -> float:
    lines = httpx.get(server.metrics_url).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("ts_inference_requests_total{"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_accepted_requests_and_leaves_no_process(
    store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with running(store, tmp_path / "log") as server:
        before, processes = accepted(server), server.java() + server.workers()
        clients = Clients(server)
        clients.start()
        while accepted(server) < before + 16:
            time.sleep(0.005)
        assert clients.statuses.count(200) < 16, "the requests were too fast: none was in flight"
        server.process.send_signal(number)
        time.sleep(0.05)
        assert httpx.get(f"{server.health_url}/ready").status_code == 503
        assert httpx.get(f"{server.health_url}/live").status_code == 200
        assert clients.join() == [200] * 16
        assert server.process.wait(timeout=60) == 0
        assert gone(processes)


def test_unfinished_requests_do_not_delay_the_stop_indefinitely(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log", "--drain-timeout", "0.2") as server:
        before = accepted(server)
        clients = Clients(server)
        clients.start()
        while accepted(server) < before + 16:
            time.sleep(0.005)
        server.process.terminate()
        assert server.process.wait(timeout=30) == 5
        clients.join()


def test_a_dead_torchserve_ends_the_supervisor_with_its_exit_code(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log") as server:
        (java,) = server.java()
        workers = server.workers()
        java.kill()
        assert server.process.wait(timeout=30) == 3
        assert gone(workers)
        assert "TorchServe exited with code" in server.log.read_text()


@pytest.fixture(scope="module")
def impaired(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server with two workers for tests that kill its processes; the last one kills the supervisor."""
    with running(store, tmp_path_factory.mktemp("impaired") / "log", "--workers", "2") as server:
        yield server


def kill(workers: list[psutil.Process]) -> None:
    """Kill workers; TorchServe starts others, and one that returns quickly is not noticed."""
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def state(server: Server) -> str:
    return str(httpx.get(f"{server.health_url}/ready").json()["state"])


def test_a_server_with_one_of_two_workers_is_degraded_and_answers(impaired: Server) -> None:
    kept = impaired.workers()[0].pid
    deadline = time.monotonic() + 60
    while state(impaired) != "degraded" and time.monotonic() < deadline:
        kill([worker for worker in impaired.workers() if worker.pid != kept])
        time.sleep(0.05)
        assert httpx.get(f"{impaired.health_url}/ready").status_code == 200
    assert state(impaired) == "degraded"
    assert httpx.post(f"{impaired.url}/predictions/{NAME}", content=FILM, timeout=30).status_code == 200


def test_a_model_without_workers_makes_the_server_unavailable_until_they_return(impaired: Server) -> None:
    deadline = time.monotonic() + 60
    while httpx.get(f"{impaired.health_url}/ready").status_code == 200 and time.monotonic() < deadline:
        kill(impaired.workers())
        time.sleep(0.05)
    assert httpx.get(f"{impaired.health_url}/ready").status_code == 503
    while state(impaired) != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert httpx.get(f"{impaired.health_url}/ready").status_code == 200
    assert httpx.post(f"{impaired.url}/predictions/{NAME}", content=FILM, timeout=30).status_code == 200
    messages = [line["message"] for line in impaired.log_lines() if line["logger"] == "radserve.server.monitor"]
    assert any("unavailable: " in message and "0 of 2 workers are ready" in message for message in messages)
    assert messages[-1] == "ready: Every worker is ready."


def test_a_killed_supervisor_leaves_no_process(impaired: Server) -> None:
    processes = impaired.java() + impaired.workers()
    os.kill(impaired.process.pid, signal.SIGKILL)
    assert gone(processes)
