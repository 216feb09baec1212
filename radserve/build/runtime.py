"""Measures on which engine a model's forward pass is fastest: `radserve choose-runtime NAME`."""

import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import torch

from handlers import engine
from handlers.engine import Engine
from handlers.onnx_program import OnnxProgram
from handlers.program import Program
from handlers.recipe import Runtime
from radserve.build import onnx_export, trained_network
from radserve.build.export import export
from radserve.build.source import Source

_BATCHES: Final = (1, 8)
_SECONDS: Final = 2.0
"""CPU time of the measurement of one engine and batch size."""
_ROUNDS: Final = 2
_RATIO: Final = 0.9
"""Largest ratio of times at which ONNX Runtime is chosen: smaller gains are not worth its memory and its import."""


def choose(source: Source) -> Runtime:
    """Measure a model with both engines, on one thread and by CPU time; return the faster one with the figures.

    Raises `BuildError` if the weights are missing, or the network cannot be exported.
    """
    spec = source.recipe.input
    shape = (spec.channels, spec.height, spec.width)
    network = trained_network.load_for_export(source.recipe, source.weights)
    names = ("logits", "moments") if source.recipe.detector and source.recipe.detector.layers else ("logits",)
    with tempfile.TemporaryDirectory(prefix="radserve-runtime-") as name, _one_thread():
        exported, graph = Path(name) / engine.EXPORTED, Path(name) / engine.ONNX
        export(network, shape, exported)
        onnx_export.export(network, shape, exported, graph)
        programs: dict[str, Engine] = {"torch": Program(exported), "onnxruntime": OnnxProgram(graph, exported)}
        figures = _measure(programs, shape, names)
    return Runtime.model_validate({"engine": fastest(figures), "milliseconds": figures, "measured": _environment()})


def fastest(milliseconds: Mapping[str, Sequence[float]]) -> str:
    """Return `onnxruntime` where its times, as a geometric mean over the batch sizes, are short enough."""
    pairs = zip(milliseconds["onnxruntime"], milliseconds["torch"], strict=True)
    ratio = math.prod(new / old for new, old in pairs) ** (1 / len(milliseconds["torch"]))
    return "onnxruntime" if ratio <= _RATIO else "torch"


def _measure(
    programs: Mapping[str, Engine], shape: tuple[int, int, int], names: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """Return the CPU milliseconds of a batch of each size, the shortest of several rounds that alternate engines."""
    rows: dict[str, list[list[float]]] = {key: [] for key in programs}
    for _ in range(_ROUNDS):
        for key, program in programs.items():
            batches = [np.zeros((size, *shape), dtype=np.float32) for size in _BATCHES]
            rows[key].append([_milliseconds(partial(program.run, batch, names)) for batch in batches])
    return {key: tuple(round(min(column), 2) for column in zip(*values, strict=True)) for key, values in rows.items()}


def _milliseconds(run: Callable[[], object]) -> float:
    """Return the lower quartile of the CPU times of repeated calls, after one to warm up."""
    run()
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 3:
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1000 * statistics.quantiles(times, n=4)[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _environment() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "onnxruntime"))
    return f"{model or platform.machine()}; {versions}"
