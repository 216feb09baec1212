"""CPU cores and memory available to this process, and the division of the cores among workers."""

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from radserve.errors import ServeError

_MAX_WORKERS: Final = 8
"""Each worker holds its own weights and buffers (0.15 GB, or 0.4 GB with its own copy of torch, unless forked); more
cores are used as threads instead."""


def cores() -> int:
    """Count the cores in the affinity mask, limited by the CPU quota of the control group (v2)."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(count, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


def memory(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the bytes of memory that this process may use: those of the machine, limited by its control groups."""
    limits = [psutil.virtual_memory().total]
    group = membership.read_text(encoding="ascii").rpartition("::/")[2].strip() if membership.exists() else ""
    folders = [root / group, *(parent for parent in (root / group).parents if parent.is_relative_to(root))]
    for path in (*(folder / "memory.max" for folder in folders), root / "memory" / "memory.limit_in_bytes"):  # v2, v1
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(path.read_text(encoding="ascii")))
    return min(limits)


def parse_memory(text: str) -> int:
    """Parse a size as Docker writes it; without one, return `memory()`."""
    if not text:
        return memory()
    match = re.fullmatch(r"([0-9]+)([kmg]?)b?", text.lower())
    if match is None:
        raise ServeError(f"--memory has value {text!r}; write a number of bytes, or one with k, m or g, like 8g.")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


@dataclass(frozen=True)
class WorkerPlan:
    """Number of workers per model and threads per worker."""

    workers: int
    threads: int


def plan(models: int, available: int, workers: int | None = None) -> WorkerPlan:
    """Divide the available cores among models and their workers so that there is one thread per core."""
    workers = workers or min(_MAX_WORKERS, max(1, available // models))
    return WorkerPlan(workers, max(1, available // (models * workers)))
