"""The worst case for memory: as many open requests as are admitted, with the longest bodies."""

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from radserve.torchserve import capacity, launch
from tests.conftest import ROOT
from tests.repack import NAME, repack, with_settings
from tests.server import Server, running

pytestmark = pytest.mark.e2e

URL = f"/predictions/{NAME}"
LONGEST = launch.max_size((ROOT / "config.properties").read_text(), "request")


PATIENCE = 180
"""Seconds after which the test hangs. TorchServe waits longer for the stopped worker, however long the bodies take."""


def test_a_full_queue_of_the_longest_bodies_fits_into_java(store: Path, tmp_path: Path) -> None:
    limits = capacity.plan(4 << 30, LONGEST, 128)
    bodies = [bytes(LONGEST)] * limits.large + [bytes(capacity.SMALL)] * (limits.requests - limits.large)
    patient = shutil.copytree(store, tmp_path / "store")
    repack(patient, with_settings(responseTimeout=2 * PATIENCE))
    options = ("--memory", "4g", "--workers", "1", "--models", NAME, "--runtime", str(tmp_path / "run"))
    with (
        running(patient, tmp_path / "log", *options) as server,
        httpx.Client(timeout=2 * PATIENCE, limits=httpx.Limits(max_connections=None)) as client,
        ThreadPoolExecutor(len(bodies)) as pool,
    ):

        def post(body: bytes) -> int:
            return client.post(server.url + URL, content=body).status_code

        before = accepted(client, server)
        (worker,) = server.workers()
        worker.suspend()
        try:
            sent = [pool.submit(post, body) for body in bodies]
            deadline = time.monotonic() + PATIENCE
            while accepted(client, server) < before + len(bodies):
                assert time.monotonic() < deadline, (accepted(client, server) - before, server.log.read_text()[-2000:])
                time.sleep(0.1)
            assert post(b"x") == 429  # the queue is full
        finally:
            worker.resume()
        statuses = {future.result() for future in sent}
        assert statuses <= {400, 413, 415}  # no image, and no lack of memory
        log = server.log.read_text()
    assert not re.search("OutOfMemory|OutOfDirectMemory|Cannot reserve", log)


def test_java_reuses_the_memory_of_finished_requests(store: Path, tmp_path: Path) -> None:
    """Bodies of 2 GiB in all arrive, of which 80 MiB at a time. The heap's limit is 2 GiB."""
    options = ("--memory", "16g", "--workers", "1", "--models", NAME)
    with (
        running(store, tmp_path / "log", *options) as server,
        httpx.Client(timeout=PATIENCE) as client,
        ThreadPoolExecutor(4) as pool,
    ):

        def post(_: int) -> int:
            return client.post(server.url + URL, content=bytes(20 << 20)).status_code

        assert set(pool.map(post, range(100))) == {415}
        (java,) = server.java()
        assert java.memory_info().rss < 750 << 20


def accepted(client: httpx.Client, server: Server) -> float:
    """Return the number of requests that TorchServe has received completely."""
    text = client.get(server.metrics_url).text
    return sum(map(float, re.findall(r"^ts_inference_requests_total\{.*\} (\S+)$", text, re.MULTILINE)))
