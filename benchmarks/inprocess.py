"""The pipeline of an archive without a server: the handler called directly, in some processes."""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Image, Load

_FEWEST_CALLS = 3
_barrier: Any = None


@dataclass(frozen=True)
class Way:
    """How many processes, with how many threads each, answer batches of how many images."""

    processes: int
    threads: int
    batch: int

    def __str__(self) -> str:
        many = "one process" if self.processes == 1 else f"{self.processes} processes"
        return f"{many}, " + ("image by image" if self.batch == 1 else f"batches of {self.batch}")


def measure(folder: Path, device: str, images: Sequence[Image], way: Way, seconds: float) -> Load:
    """Answer images as the handler does, HTTP and TorchServe left out; latency is that of a batch.

    Parameters
    ----------
    folder
        The unpacked archive.

    Raises
    ------
    RuntimeError
        If an image is not answered.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(way.processes)
    with ProcessPoolExecutor(way.processes, context, initializer=_share, initargs=(barrier,)) as pool:
        works = [pool.submit(_work, folder, device, list(images), way, seconds) for _ in range(way.processes)]
        done = [work.result() for work in works]
    latencies = [value for each, _ in done for value in each]
    return Load.of(latencies, max(elapsed for _, elapsed in done), way.batch)


def _share(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603  # a barrier reaches a process only when that is made
    _barrier = barrier


def _work(folder: Path, device: str, images: list[Image], way: Way, seconds: float) -> tuple[list[float], float]:
    try:
        os.environ["OMP_NUM_THREADS"] = str(way.threads)
        import torch

        torch.set_num_threads(way.threads)
        service = _service(folder, device, way.batch)
        turn = itertools.cycle(images)
        _answer(service, turn, way.batch)
        _barrier.wait()
    except BaseException:
        _barrier.abort()  # the others would wait for ever
        raise
    latencies: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(latencies) < _FEWEST_CALLS:
        begin = time.perf_counter()
        _answer(service, turn, way.batch)
        latencies.append(time.perf_counter() - begin)
    return latencies, time.perf_counter() - start


def _service(folder: Path, device: str, batch: int) -> Any:
    """Load the handler of the archive's task, as TorchServe does."""
    from handlers import recipe
    from handlers.torchserve_handler import TorchServeHandler

    module = importlib.import_module(f"handlers.{recipe.load(folder / 'archive.yaml').task}")
    (kind,) = (item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__)
    service = kind()
    assert isinstance(service, TorchServeHandler)
    gpu = 0 if device == "cuda" else None
    service.initialize(_Context({"model_dir": str(folder), "gpu_id": gpu, "batch_size": batch}))
    if service.pipeline.program.device.type != device:
        raise RuntimeError(f"The model runs on {service.pipeline.program.device}, not on {device}.")
    return service


def _answer(service: Any, turn: Any, batch: int) -> None:
    images = [next(turn) for _ in range(batch)]
    context = _Context({})
    bodies = service.handle([{"body": image.content} for image in images], context)
    for image, status, body in zip(images, context.statuses, bodies, strict=True):
        if status != 200:
            raise RuntimeError(f"{image.name}: answered {status}: {body[:300]!r}")


class _Context:
    """As much of TorchServe's context as a handler needs."""

    def __init__(self, system_properties: dict[str, Any]) -> None:
        self.system_properties = system_properties
        self.statuses: list[int] = []

    def get_all_request_header(self, index: int) -> dict[str, str]:  # noqa: ARG002  # TorchServe's signature
        return {}

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:  # noqa: ARG002  # as above
        self.statuses.append(code)

    def set_response_content_type(self, idx: int, value: str) -> None:
        pass
