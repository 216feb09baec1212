"""What this process may use, containers included."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOST_WORKERS: Final = 8
"""Each worker holds its own torch and weights (0.5 GB): more cores go into threads instead."""


def cores() -> int:
    """Count the cores: the affinity mask, bounded by the CPU quota of the control group (v2)."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


@dataclass(frozen=True)
class WorkerPlan:
    """How the cores are shared: `workers` a model, `threads` a worker."""

    workers: int
    threads: int


def plan(models: int, available: int, workers: int | None = None) -> WorkerPlan:
    """Share the cores among models and workers, so that all together have one thread a core.

    Parameters
    ----------
    models
        Number of models, at least 1.
    available
        Cores.
    workers
        Workers a model where the operator wants a certain number.
    """
    workers = workers or min(_MOST_WORKERS, max(1, available // models))
    return WorkerPlan(workers, max(1, available // (models * workers)))
