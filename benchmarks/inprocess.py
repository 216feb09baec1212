"""Runs the pipeline of an archive without a server: calls the handler directly, in several processes."""

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


def measure(folder: Path, device: str, images: Sequence[Image], setup: Setup, seconds: float) -> Load:
    """Measure the handler without HTTP and TorchServe; the latency is that of a batch.

    Parameters
    ----------
    folder
        The unpacked archive.

    Raises
    ------
    RuntimeError
        If an image is rejected.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(setup.processes)
    with ProcessPoolExecutor(setup.processes, context, initializer=_set_barrier, initargs=(barrier,)) as pool:
        futures = [pool.submit(_run, folder, device, list(images), setup, seconds) for _ in range(setup.processes)]
        results = [future.result() for future in futures]
    latencies = [value for each, _ in results for value in each]
    return Load.of(latencies, max(elapsed for _, elapsed in results), setup.batch)


def respond(folder: Path, bodies: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Return status and content of the response of an unpacked archive to each request body, one by one."""
    handler = _handler(folder, "cpu", 1)
    context = _Context({})
    contents = [handler.handle([{"body": body}], context)[0] for body in bodies]
    return list(zip(context.statuses, contents, strict=True))


def _set_barrier(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603  # a barrier can only be passed to a process when it is created
    _barrier = barrier


def _run(folder: Path, device: str, images: list[Image], setup: Setup, seconds: float) -> tuple[list[float], float]:
    try:
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)
        import torch

        torch.set_num_threads(setup.threads)
        handler = _handler(folder, device, setup.batch)
        cycle = itertools.cycle(images)
        _predict(handler, cycle, setup.batch)
        _barrier.wait()
    except BaseException:
        _barrier.abort()  # otherwise the other processes would wait forever
        raise
    latencies: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(latencies) < _MIN_CALLS:
        call = time.perf_counter()
        _predict(handler, cycle, setup.batch)
        latencies.append(time.perf_counter() - call)
    return latencies, time.perf_counter() - start


def _handler(folder: Path, device: str, batch: int) -> Any:
    """Load the handler of the archive's task like TorchServe."""
    from handlers import recipe
    from handlers.program import Program
    from handlers.torchserve_handler import TorchServeHandler

    module = importlib.import_module(f"handlers.{recipe.load(folder / 'archive.yaml').task}")
    (kind,) = (item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__)
    handler = kind()
    assert isinstance(handler, TorchServeHandler)
    gpu = 0 if device == "cuda" else None
    handler.initialize(_Context({"model_dir": str(folder), "gpu_id": gpu, "batch_size": batch}))
    program = handler.pipeline.program
    actual = program.device.type if isinstance(program, Program) else "cpu"
    if actual != device:
        raise RuntimeError(f"The model runs on {actual} instead of {device}.")
    return handler


def _predict(handler: Any, cycle: Any, batch: int) -> None:
    images = [next(cycle) for _ in range(batch)]
    context = _Context({})
    bodies = handler.handle([{"body": image.content} for image in images], context)
    for image, status, body in zip(images, context.statuses, bodies, strict=True):
        if status != 200:
            raise RuntimeError(f"{image.name}: status {status}: {body[:300]!r}")


class _Context:
    """The part of TorchServe's context that a handler uses."""

    def __init__(self, system_properties: dict[str, Any]) -> None:
        self.system_properties = system_properties
        self.statuses: list[int] = []

    def get_all_request_header(self, index: int) -> dict[str, str]:  # noqa: ARG002  # TorchServe's signature
        return {}

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:  # noqa: ARG002  # as above
        self.statuses.append(code)

    def set_response_content_type(self, idx: int, value: str) -> None:
        pass

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        pass
