"""A file that one process at a time works on."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading and writing, made if it is missing, that nobody else has opened by this function.

    It may be renamed or removed meanwhile: who waited for it then makes a new one.
    """
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:  # noqa: PTH123 - a descriptor
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is(path, file.fileno()):
                yield cast("BinaryIO", file)
                return


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
