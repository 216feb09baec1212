"""Responses of the gateway when the model server loses a request."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_stop import accepted
from tests.fake_supervisor import await_true
from tests.gateways import gateway
from tests.repack import FILM, NAME
from tests.server import running

pytestmark = pytest.mark.e2e


def test_dead_worker_returns_503_and_retry_succeeds(store: Path, tmp_path: Path) -> None:
    with (
        running(store, tmp_path / "log", "--workers", "1") as server,
        gateway(server, tmp_path, history="none") as started,
        httpx.Client(base_url=started.url, timeout=60) as client,
        ThreadPoolExecutor() as pool,
    ):
        (worker,) = server.workers()
        worker.suspend()  # so that it cannot finish the request
        before = accepted(server)
        lost = pool.submit(client.post, f"/api/predictions/{NAME}", content=FILM)
        await_true(lambda: accepted(server) > before)
        time.sleep(0.5)  # the request moves from the queue to the worker
        worker.kill()
        answer = lost.result(timeout=60)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert "try again" in answer.json()["detail"]
        assert "label" not in answer.json()
        assert client.post(f"/api/predictions/{NAME}", content=FILM).json()["label"] == "pneumonia"
