"""Simulates a server's queue: requests are received, wait for a free worker, and are analysed in batches.

All running work shares the cores equally (processor sharing), because reception, workers and, in a measurement, the
clients use the same ones. Discrete events, no approximation of the waiting time.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.load import Load

_WARM_UP: Final = 0.1
"""Share of the requests that are not counted, because the queue is still empty."""


@dataclass(frozen=True)
class Server:
    """A server, with processor times in seconds.

    Attributes
    ----------
    cores, workers
        Number of each.
    batch
        Largest number of images that a worker analyses together.
    receive
        Work for a request outside the workers.
    start
        Work for a batch, whatever its size.
    each
        Work for each image of a batch.
    """

    cores: int
    workers: int
    batch: int
    receive: float
    start: float
    each: float

    @property
    def capacity(self) -> float:
        """Images per second if batches are full: limited by the workers or by the cores."""
        per_image = self.start / self.batch + self.each
        return min(self.workers / per_image, self.cores / (per_image + self.receive))


@dataclass
class _Cores:
    """Tasks that share the cores. `attained` is the work that a task present from the beginning would have got."""

    count: int
    now: float = 0.0
    attained: float = 0.0
    tasks: list[tuple[float, int, tuple[float, ...], bool]] = field(default_factory=list)
    started: int = 0

    def add(self, work: float, requests: tuple[float, ...], *, analysed: bool) -> None:
        self.started += 1
        heapq.heappush(self.tasks, (self.attained + work, self.started, requests, analysed))

    def next_end(self) -> float:
        if not self.tasks:
            return math.inf
        return self.now + (self.tasks[0][0] - self.attained) / self._speed()

    def advance(self, time: float) -> None:
        if self.tasks:
            self.attained += (time - self.now) * self._speed()
        self.now = time

    def _speed(self) -> float:
        return min(1.0, self.count / len(self.tasks))


def closed(server: Server, clients: int, images: int) -> Load:
    """Simulate clients that each wait for a response before the next request."""
    return _simulate(server, iter([0.0] * clients), images, repeat=True)


def open_loop(server: Server, rate: float, images: int, seed: int = 0) -> Load:
    """Simulate independent requests (a Poisson process) at a rate per second."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, images)
    return _simulate(server, iter(np.cumsum(gaps).tolist()), images, repeat=False)


def _simulate(server: Server, arrivals: Iterator[float], images: int, *, repeat: bool) -> Load:
    cores, waiting, free = _Cores(server.cores), deque[float](), server.workers
    ends: list[float] = []
    latencies: list[float] = []
    arrival = next(arrivals, math.inf)
    while len(ends) < images:
        end = cores.next_end()
        cores.advance(min(arrival, end))
        if arrival <= end:
            cores.add(server.receive, (arrival,), analysed=False)
            arrival = next(arrivals, math.inf)
            continue
        _, _, requests, analysed = heapq.heappop(cores.tasks)
        if not analysed:
            waiting.extend(requests)
        else:
            free += 1
            latencies += [cores.now - request for request in requests]
            ends += [cores.now] * len(requests)
            for _ in requests if repeat else ():
                cores.add(server.receive, (cores.now,), analysed=False)
        while free and waiting:
            batch = tuple(waiting.popleft() for _ in range(min(server.batch, len(waiting))))
            cores.add(server.start + server.each * len(batch), batch, analysed=True)
            free -= 1
    skipped = int(len(ends) * _WARM_UP)
    return Load.of(latencies[skipped:], ends[-1] - (ends[skipped - 1] if skipped else 0.0))


def highest_rate(server: Server, p99: float, images: int = 20_000) -> Load:
    """Return the load at the highest rate of independent requests whose 99th percentile stays below `p99` ms.

    Raises
    ------
    ValueError
        If even a single request takes longer.
    """
    low, high = 0.0, server.capacity
    best: Load | None = None
    for _ in range(12):
        middle = (low + high) / 2
        load = open_loop(server, middle, images)
        if load.p99 < p99:
            low, best = middle, load
        else:
            high = middle
    if best is None:
        raise ValueError(f"A p99 of {p99} ms is below the time of one request. Allow more.")
    return best
