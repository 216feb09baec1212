"""Closed loops against a server, and what they measure."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Image:
    """An encoded image, and the name that an error calls it by."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Load:
    """One measurement: images a second, and percentiles of the latency in ms."""

    rate: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, latencies: Sequence[float], elapsed: float, batch: int = 1) -> Load:
        """Sum up calls of `batch` images each, which took `latencies` seconds and `elapsed` all together."""
        p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) * 1e3
        return cls(len(latencies) * batch / elapsed, float(p50), float(p95), float(p99))


def median(loads: Sequence[Load]) -> Load:
    """Pick the median round by rate."""
    return sorted(loads, key=lambda load: load.rate)[len(loads) // 2]


def closed_loop(url: str, model: str, images: Sequence[Image], clients: int, seconds: float) -> Load:
    """Drive a server with `clients` loops, each of which posts an image, waits for the answer, posts the next.

    Raises
    ------
    RuntimeError
        If an image is not answered.
    """
    loop = _Loop(url, f"/predictions/{model}", images, time.perf_counter() + seconds)
    threads = [threading.Thread(target=loop.run) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if loop.failures:
        raise RuntimeError(loop.failures[0])
    return Load.of(loop.latencies, elapsed)


class _Loop:
    """What the clients of one measurement share."""

    def __init__(self, url: str, path: str, images: Sequence[Image], end: float) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port)
        self._path = path
        self._turn = itertools.cycle(images)
        self._lock = threading.Lock()
        self._end = end
        self.latencies: list[float] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Be one client; it asks once at least."""
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        try:
            self._ask(connection)
            while time.perf_counter() < self._end and not self.failures:
                self._ask(connection)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"The connection broke: {error!r}")
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            image = next(self._turn)
        start = time.perf_counter()
        connection.request("POST", self._path, image.content)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            self.failures.append(f"{image.name}: answered {response.status}: {body[:300]!r}")
        self.latencies.append(time.perf_counter() - start)
