"""Exclusive lock on a data file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading and writing, create it if missing, and lock it.

    The lock is on the data file, not on a file beside it as with filelock: the holder may rename or remove the file,
    and a process that waited for it then creates a new one.
    """
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:  # noqa: PTH123 - a descriptor
            fcntl.flock(file, fcntl.LOCK_EX)
            if _refers_to(path, file.fileno()):
                yield cast("BinaryIO", file)
                return


def _refers_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
