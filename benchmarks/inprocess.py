"""Runs the pipeline of an archive without a server: calls the handler directly, in several processes."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Image, Load
from radserve.build.in_process import InProcessModel, Request

_MIN_CALLS = 3
_barrier: Any = None


@dataclass(frozen=True)
class Setup:
    """Number of processes, threads of each, and batch size."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        processes = "one process" if self.processes == 1 else f"{self.processes} processes"
        return f"{processes}, " + ("image by image" if self.batch == 1 else f"batches of {self.batch}")


def measure(archive: Path, device: str, images: Sequence[Image], setup: Setup, seconds: float) -> Load:
    """Measure the handler without HTTP and TorchServe; the latency is that of a batch.

    Raises
    ------
    RuntimeError
        If an image is rejected.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(setup.processes)
    with ProcessPoolExecutor(setup.processes, context, initializer=_set_barrier, initargs=(barrier,)) as pool:
        futures = [pool.submit(_run, archive, device, list(images), setup, seconds) for _ in range(setup.processes)]
        results = [future.result() for future in futures]
    latencies = [value for each, _ in results for value in each]
    return Load.of(latencies, max(elapsed for _, elapsed in results), setup.batch)


def respond(archive: Path, bodies: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Return status and content of the response of an archive to each request body, one by one."""
    model = InProcessModel(archive, batch=1)
    responses = [model.respond([Request(body)])[0] for body in bodies]
    return [(response.status, response.body) for response in responses]


def _set_barrier(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603  # a barrier can only be passed to a process when it is created
    _barrier = barrier


def _run(archive: Path, device: str, images: list[Image], setup: Setup, seconds: float) -> tuple[list[float], float]:
    try:
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)
        import torch

        torch.set_num_threads(setup.threads)
        model = InProcessModel(archive, device=device, batch=setup.batch)
        cycle = itertools.cycle(images)
        _predict(model, cycle, setup.batch)
        _barrier.wait()
    except BaseException:
        _barrier.abort()  # otherwise the other processes would wait forever
        raise
    latencies: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(latencies) < _MIN_CALLS:
        call = time.perf_counter()
        _predict(model, cycle, setup.batch)
        latencies.append(time.perf_counter() - call)
    return latencies, time.perf_counter() - start


def _predict(model: InProcessModel, cycle: Iterator[Image], batch: int) -> None:
    images = [next(cycle) for _ in range(batch)]
    for image, response in zip(images, model.respond([Request(image.content) for image in images]), strict=True):
        if response.status != 200:
            raise RuntimeError(f"{image.name}: status {response.status}: {response.body[:300]!r}")
