"""Command and environment of the process that runs Ray Serve."""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from radserve.errors import ServeError
from radserve.host import ray
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import launch
from radserve.torchserve.capacity import Capacity
from radserve.torchserve.registry import ModelVersion

_MAX_FOLDER: Final = 42
"""Longest path of Ray's folder, so that those of its unix sockets have at most 107 bytes."""
_ENVIRONMENT: Final = {
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it would kill replicas for the memory that others use
}


def require_supported(run_directory: Path | None, *, pulls: bool) -> None:
    """Raise ServeError for what this engine cannot do."""
    if find_spec("ray") is None or find_spec("grpc_reflection") is None:
        raise ServeError("--engine ray: Ray Serve is not installed; run pip install 'radserve[batch]'.")
    if pulls:
        raise ServeError("--engine ray cannot pull versions while it runs: omit --store, or use --engine torchserve.")
    temporary = Path(tempfile.gettempdir())
    folder = run_directory or temporary / "radserve-12345678"
    if len(os.fsencode(RunDirectory(folder.absolute()).ray)) > _MAX_FOLDER:
        name = f"--runtime {folder}" if run_directory else f"TMPDIR {temporary}"
        raise ServeError(f"{name}: too long for Ray's unix sockets; choose a shorter path with --runtime.")


def require_no_rollouts(names: Iterable[str]) -> None:
    """Raise ServeError if rollouts are in progress."""
    if text := ", ".join(names):
        raise ServeError(f"--engine ray cannot continue the rollout of {text}; finish it with --engine torchserve.")


def command(run_directory: RunDirectory, versions: Sequence[ModelVersion], capacity: Capacity) -> list[str]:
    """Return the command."""
    folder = run_directory.models
    settings = {
        "versions": [(*item.pair, str(folder / item.entry.file), item.workers) for item in versions],
        "sockets": [str(run_directory.inference), str(run_directory.management), str(run_directory.metrics)],
        "reports": str(run_directory.folder / "reports.sock"),
        "metrics": str(Path(launch.__file__).with_name("metrics.yaml")),
        "ray": {
            **ray.LOCAL,
            "num_cpus": 1,  # replicas use none: the plan of workers divides the cores
            "object_store_memory": capacity.heap,
            "_temp_dir": str(run_directory.ray),
        },
    }
    return [sys.executable, "-P", "-m", "radserve.rayserve.engine", json.dumps(settings)]


def environment() -> dict[str, str]:
    """Return the variables that Ray reads."""
    return _ENVIRONMENT | ray.environment() | ray.local_environment()
