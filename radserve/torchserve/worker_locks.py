"""Detection of busy workers: those that hold the lock of `handlers.worker.busy_lock`."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from handlers import worker

_LOCKS: Final = Path("/proc/locks")
_LINE: Final = re.compile(r"\d+: FLOCK +ADVISORY +\w+ +(?P<pid>\d+) +[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+) ")
"""A held lock in the format of proc_locks(5). The line of a waiting process has an arrow after the number."""


def any_busy(path: Path, pids: Collection[int], locks: Path = _LOCKS) -> bool:
    """Return whether one of the given workers is processing a batch.

    Where /proc/locks is unreadable, any busy worker counts.
    """
    try:
        text = locks.read_text(encoding="ascii")
    except OSError:
        return worker.is_any_busy(path)
    inode = str(path.stat().st_ino)
    return any(int(match["pid"]) in pids for match in _LINE.finditer(text) if match["inode"] == inode)
