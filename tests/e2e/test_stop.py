"""The end of a server: nothing accepted is lost, nothing is left behind, and the exit code says why."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.repack import NAME
from tests.server import Server, running

pytestmark = pytest.mark.e2e

FILM = (ROOT / "archives" / NAME / "sample.png").read_bytes()


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=15)
    return not alive


class Clients:
    """Sixteen clients, each of which posts a slow request and remembers what became of it."""

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
def test_every_accepted_request_is_answered_and_no_java_is_left(
    store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with running(store, tmp_path / "log") as server:
        before, processes = accepted(server), server.java() + server.workers()
        clients = Clients(server)
        clients.start()
        while accepted(server) < before + 16:
            time.sleep(0.005)
        assert clients.statuses.count(200) < 16, "too fast: nothing was in flight any more"
        server.process.send_signal(number)
        time.sleep(0.05)
        assert httpx.get(f"{server.health_url}/ready").status_code == 503
        assert httpx.get(f"{server.health_url}/live").status_code == 200
        assert clients.join() == [200] * 16
        assert server.process.wait(timeout=60) == 0
        assert gone(processes)


def test_clients_that_never_stop_asking_lose_nothing_and_do_not_hold_up_the_stop(store: Path, tmp_path: Path) -> None:
    """Half of them keep their connection, half open a new one for each request."""
    outcomes: list[object] = []
    with running(store, tmp_path / "log", "--drain-timeout", "6") as server:

        def ask(*, keep: bool) -> None:
            client = httpx.Client(timeout=30)
            headers = {} if keep else {"Connection": "close"}
            while True:
                try:
                    response = client.post(f"{server.url}/predictions/{NAME}", content=FILM, headers=headers)
                except httpx.HTTPError as error:
                    outcomes.append(type(error))
                    break
                outcomes.append(response.status_code)
                if not keep:
                    client.close()
                    client = httpx.Client(timeout=30)
            client.close()

        threads = [threading.Thread(target=ask, kwargs={"keep": index % 2 == 0}) for index in range(16)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.process.terminate()
        assert server.process.wait(timeout=60) == 0
        for thread in threads:
            thread.join()
    assert set(outcomes) <= {200, 503, httpx.ConnectError}
    assert outcomes.count(httpx.ConnectError) == 16  # each ends where the door is closed
    assert outcomes.count(503) <= 8  # at most one for each kept connection
    assert outcomes.count(200) > 50


def test_a_request_that_never_ends_does_not_keep_the_server_for_ever(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log", "--drain-timeout", "0.2") as server:
        before = accepted(server)
        clients = Clients(server)
        clients.start()
        while accepted(server) < before + 16:
            time.sleep(0.005)
        server.process.terminate()
        assert server.process.wait(timeout=30) == 5
        clients.join()


def test_a_torchserve_that_dies_ends_the_supervisor_with_a_code_that_says_so(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log") as server:
        (java,) = server.java()
        workers = server.workers()
        java.kill()
        assert server.process.wait(timeout=30) == 3
        assert gone(workers)
        assert "TorchServe exited with code" in server.log.read_text()


def test_a_killed_supervisor_takes_torchserve_with_it(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log") as server:
        processes = server.java() + server.workers()
        os.kill(server.process.pid, signal.SIGKILL)
        assert gone(processes)


def ready(server: Server) -> bool:
    return httpx.get(f"{server.health_url}/ready").status_code == 200


def test_a_worker_that_stays_away_is_said_and_comes_back(store: Path, tmp_path: Path) -> None:
    with running(store, tmp_path / "log", "--workers", "1") as server:
        deadline = time.monotonic() + 60
        while ready(server) and time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                for worker in server.workers():  # one that is back at once was not missed
                    worker.kill()
            time.sleep(0.05)
        assert not ready(server)
        while not ready(server) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ready(server)
        assert httpx.post(f"{server.url}/predictions/{NAME}", content=FILM, timeout=30).status_code == 200
        messages = [line["message"] for line in server.log_lines() if line["logger"] == "radserve.server.monitor"]
        assert any("0 of 1 workers are ready" in message for message in messages)
        assert any("all workers are back" in message for message in messages)
