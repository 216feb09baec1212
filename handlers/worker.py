"""The process that TorchServe runs the service in: its environment, its log, the sign that it is busy.

The supervisor shares these names, so nothing heavy is imported here.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

INDEX: Final = "RADSERVE_INDEX"
"""Environment: path of the model store's index, which knows the sha256 of this archive."""
MAX_RESPONSE: Final = "RADSERVE_MAX_RESPONSE_BYTES"
"""Environment: TorchServe's max_response_size; one byte more and it kills the worker."""
BUSY: Final = "RADSERVE_BUSY"
"""Environment: path of a file that is locked (shared) while a batch is being answered. The supervisor
asks for the exclusive lock to learn whether any worker is busy; the kernel drops it with the process."""
CLOSING: Final = "RADSERVE_CLOSING"
"""Environment: path of a file that exists from when on requests are answered 503, since the server stops."""


class _Quiet(logging.Filter):
    """Keeps warnings, and the metrics that TorchServe reads from the worker's output."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or str(record.msg).startswith("[METRICS]")


def quieten() -> None:
    """Silence TorchServe's worker, which writes several lines a request."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Quiet())


@functools.cache
def _lock_file(path: str) -> IO[bytes]:
    return Path(path).open("ab")


@contextmanager
def busy() -> Iterator[None]:
    """Hold the busy lock."""
    path = os.environ.get(BUSY)
    if path is None:
        yield
        return
    file = _lock_file(path)
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def closing() -> bool:
    """Whether the server is stopping and takes no more requests."""
    path = os.environ.get(CLOSING)
    return path is not None and Path(path).exists()


def anyone_busy(path: Path) -> bool:
    """Whether any process holds the busy lock now."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
