"""The worst case for memory: as many open requests as are admitted, with the longest bodies."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from radserve.torchserve import capacity, launch
from tests.conftest import ROOT
from tests.repack import NAME
from tests.server import Server, running

pytestmark = pytest.mark.e2e

URL = f"/predictions/{NAME}"
LONGEST = launch.max_size((ROOT / "config.properties").read_text(), "request")


def test_a_full_queue_of_the_longest_bodies_fits_into_java(store: Path, tmp_path: Path) -> None:
    limits = capacity.plan(4 << 30, LONGEST, 128)
    bodies = [bytes(LONGEST)] * limits.large + [bytes(capacity.SMALL)] * (limits.requests - limits.large)
    options = ("--memory", "4g", "--workers", "1", "--models", NAME, "--runtime", str(tmp_path / "run"))
    with running(store, tmp_path / "log", *options) as server, ThreadPoolExecutor(len(bodies)) as pool:
        before = accepted(server)
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            sent = [pool.submit(post, server, body) for body in bodies]
            deadline = time.monotonic() + 45
            while accepted(server) < before + len(bodies):
                assert time.monotonic() < deadline, (accepted(server) - before, server.log.read_text()[-2000:])
                time.sleep(0.1)
            assert post(server, b"x") == 429  # the queue is full
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        statuses = {future.result() for future in sent}
        assert statuses <= {400, 413, 415}  # no image, and no lack of memory
        log = server.log.read_text()
    assert not re.search("OutOfMemory|OutOfDirectMemory|Cannot reserve", log)


def post(server: Server, body: bytes) -> int:
    return httpx.post(server.url + URL, content=body, timeout=120).status_code


def accepted(server: Server) -> float:
    """Return the number of requests that TorchServe has received completely."""
    text = httpx.get(server.metrics_url).text
    return sum(map(float, re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", text, re.MULTILINE)))
