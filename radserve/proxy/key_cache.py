"""Folder in memory for nginx's cache of key decisions.

nginx writes its cache keys, which contain API keys, into the files of the cache, so these must never reach a disk.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import psutil

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - for its file system, not for its name


def create(folder: Path) -> Path | None:
    """Create a private folder in /dev/shm, where no bodies are, else below `folder`; None if neither is in memory."""
    if not _in_memory(_SHARED_MEMORY) or not os.access(_SHARED_MEMORY, os.W_OK):
        if not _in_memory(folder):
            return None
        path = folder / "keys"
        path.mkdir(mode=0o700)
        return path
    prefix = f"radserve-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}-"
    for leftover in _SHARED_MEMORY.glob(f"{prefix}*"):  # of a killed run in the same folder
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_SHARED_MEMORY))


def _in_memory(path: Path) -> bool:
    if not path.is_dir():
        return False
    file_systems = {Path(item.mountpoint): item.fstype for item in psutil.disk_partitions(all=True)}
    resolved = path.resolve()
    mount = next((item for item in (resolved, *resolved.parents) if item in file_systems), None)
    return mount is not None and file_systems[mount] in ("tmpfs", "ramfs")
