"""Folder in memory for nginx's cache of key decisions.

nginx writes its cache keys, which contain API keys, into the files of the cache, and cannot hash them. So the files
must never reach a disk, and those of a killed run are removed at the next start.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - for its file system, not for its name
_PREFIX: Final = "radserve-keys-"


@dataclass(frozen=True)
class KeyCache:
    """Private folder of one nginx, which inherits the descriptor `lock` of it and holds the lock while it runs."""

    folder: Path
    lock: int


@contextmanager
def created(folder: Path) -> Iterator[KeyCache | None]:
    """Create a cache in /dev/shm, where no bodies are, else in `folder`; None if neither is in memory.

    It is removed at the end of the block, and leftovers of killed runs at the start.
    """
    parent = next((path for path in (_SHARED_MEMORY, folder) if _in_memory(path) and os.access(path, os.W_OK)), None)
    if parent is None:
        yield None
        return
    for leftover in parent.glob(f"{_PREFIX}*"):
        _remove_unused(leftover)
    path = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    with _opened(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Other starts look for leftovers by name, so it gets its name once it is locked.
        path = path.rename(path.with_name(path.name.removeprefix(".")))
        try:
            yield KeyCache(path, lock)
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _remove_unused(path: Path) -> None:
    """Remove a cache of this user that no nginx has locked."""
    with contextlib.suppress(OSError), _opened(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _in_memory(path: Path) -> bool:
    if not path.is_dir():
        return False
    file_systems = {Path(item.mountpoint): item.fstype for item in psutil.disk_partitions(all=True)}
    resolved = path.resolve()
    mount = next((item for item in (resolved, *resolved.parents) if item in file_systems), None)
    return mount is not None and file_systems[mount] in ("tmpfs", "ramfs")
