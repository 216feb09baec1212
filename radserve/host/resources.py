"""CPU cores available to this process, and their division among workers."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAX_WORKERS: Final = 8
"""Each worker holds its own copy of torch and the weights (0.5 GB); more cores are used as threads instead."""


def cores() -> int:
    """Count the cores in the affinity mask, limited by the CPU quota of the control group (v2)."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


@dataclass(frozen=True)
class WorkerPlan:
    """Number of workers per model and threads per worker."""

    workers: int
    threads: int


def plan(models: int, available: int, workers: int | None = None) -> WorkerPlan:
    """Divide the available cores among models and their workers so that there is one thread per core."""
    workers = workers or min(_MAX_WORKERS, max(1, available // models))
    return WorkerPlan(workers, max(1, available // (models * workers)))
