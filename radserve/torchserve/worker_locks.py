"""Which workers have a batch in hand: who holds the lock of `handlers.worker.busy_lock`."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from handlers import worker

_LOCKS: Final = Path("/proc/locks")
_LINE: Final = re.compile(r"\d+: FLOCK +ADVISORY +\w+ +(?P<pid>\d+) +[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ")
"""A lock that is held, as proc_locks(5) writes it; one that is waited for has an arrow behind the number."""


def anyone(path: Path, pids: Collection[int], locks: Path = _LOCKS) -> bool:
    """Whether one of some workers has a batch in hand.

    Where the kernel does not say who holds a lock, any worker at all counts.
    """
    try:
        text = locks.read_text(encoding="ascii")
    except OSError:
        return worker.is_any_busy(path)
    inode = str(os.stat(path).st_ino)  # noqa: PTH116 - as the kernel has it
    return any(int(match["pid"]) in pids for match in _LINE.finditer(text) if match["inode"] == inode)
