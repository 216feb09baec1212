"""Settings that a process inherits from its parent. A fork copies those of its client."""

import math
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_LIMITS: Final = tuple(value for name, value in vars(resource).items() if name.startswith("RLIMIT_"))


@dataclass(frozen=True)
class ProcessSettings:
    """Inherited settings of a process.

    Attributes
    ----------
    limits
        Soft and hard limit of each resource.
    niceness, oom_score
        Priorities for the processor, and for being killed when memory runs out (`oom_score_adj`).
    cores
        Cores on which it may run.
    umask
        Permissions that its files do not get.
    """

    limits: Mapping[int, tuple[int, int]]
    niceness: int
    oom_score: int
    cores: frozenset[int]
    umask: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read the settings of a process; raises OSError if it has ended."""
        folder = Path("/proc", str(pid))
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        return cls(
            {limit: resource.prlimit(pid, limit) for limit in _LIMITS},
            os.getpriority(os.PRIO_PROCESS, pid),
            int((folder / "oom_score_adj").read_text()),
            frozenset(os.sched_getaffinity(pid)),
            int(status["Umask"], 8),
        )

    def privileged(self, own: "ProcessSettings") -> str:
        """Return what a process with the settings `own` may need a privilege to change; empty if nothing."""
        if self.niceness < own.niceness:
            return "niceness"
        if self.oom_score < own.oom_score:
            return "oom_score_adj"
        exceeds = any(_number(hard) > _number(own.limits[limit][1]) for limit, (_, hard) in self.limits.items())
        return "a resource limit" if exceeds else ""

    def apply(self) -> None:
        """Give this process the settings."""
        for limit, values in self.limits.items():
            resource.setrlimit(limit, values)
        os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        Path("/proc/self/oom_score_adj").write_text(str(self.oom_score))
        os.sched_setaffinity(0, self.cores)
        os.umask(self.umask)


def _number(limit: int) -> float:
    return math.inf if limit == resource.RLIM_INFINITY else limit
