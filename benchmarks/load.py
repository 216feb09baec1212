"""Closed loops against a server, and their measurements."""

import http.client
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Image:
    """An encoded image, and its name for error messages."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Load:
    """A measurement: images per second, mean and percentiles of the latency in ms, and the number of images."""

    rate: float
    mean: float
    p50: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, latencies: Sequence[float], elapsed: float, batch: int = 1) -> "Load":
        """Summarise calls of `batch` images each; latencies and total time are in seconds."""
        p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) * 1e3
        mean, count = float(np.mean(latencies)) * 1e3, len(latencies) * batch
        return cls(count / elapsed, mean, float(p50), float(p95), float(p99), count)


def median(loads: Sequence[Load]) -> Load:
    """Return the median measurement by rate."""
    return sorted(loads, key=lambda load: load.rate)[len(loads) // 2]


class _UnixConnection(http.client.HTTPConnection):
    """Connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connect(url: str) -> http.client.HTTPConnection:
    """Create a connection to a server; certificates are not verified."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path)
    if parts.scheme == "http":
        return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=120, context=context)


def post(
    connection: http.client.HTTPConnection, path: str, image: Image, headers: Mapping[str, str] | None = None
) -> float:
    """Post an image, and return the seconds until its response.

    Raises
    ------
    RuntimeError
        If the status is not 200.
    """
    start = time.perf_counter()
    connection.request("POST", path, image.content, dict(headers or {}))
    response = connection.getresponse()
    body = response.read()
    elapsed = time.perf_counter() - start
    if response.status != 200:
        raise RuntimeError(f"{image.name}: status {response.status}: {body[:300]!r}")
    return elapsed


def closed_loop(url: str, model: str, images: Sequence[Image], clients: int, seconds: float) -> Load:
    """Drive a server with concurrent clients, each of which posts an image and waits for the response, repeatedly.

    Raises
    ------
    RuntimeError
        If a request fails.
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
    """Shared state of the clients of a measurement."""

    def __init__(self, url: str, path: str, images: Sequence[Image], end: float) -> None:
        self._url = url
        self._path = path
        self._images = itertools.cycle(images)
        self._lock = threading.Lock()
        self._end = end
        self.latencies: list[float] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Run one client, which posts at least one image."""
        connection = connect(self._url)
        try:
            while True:
                with self._lock:
                    image = next(self._images)
                self.latencies.append(post(connection, self._path, image))
                if self.failures or time.perf_counter() >= self._end:
                    return
        except RuntimeError as error:
            self.failures.append(str(error))
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"The connection failed: {error!r}")
        finally:
            connection.close()
