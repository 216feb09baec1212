"""Defines what a worker process shares with the supervisor: environment variables, log filter, busy lock.

The supervisor imports this module, so it imports nothing heavy.
"""

import fcntl
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

INDEX: Final = "RADSERVE_INDEX"
"""Environment variable: path of the model store's index, which lists the sha256 of this archive."""
MAX_RESPONSE: Final = "RADSERVE_MAX_RESPONSE_BYTES"
"""Environment variable: TorchServe's max_response_size; it kills the worker that sends one byte more."""
BUSY: Final = "RADSERVE_BUSY"
"""Environment variable: path of a file that workers lock (shared) while they process a batch. The supervisor tries
the exclusive lock to learn whether any worker is busy; the kernel releases it when a process dies."""
CLOSING: Final = "RADSERVE_CLOSING"
"""Environment variable: path of a file; once it exists, the server is stopping and requests get 503."""


class _WarningsAndMetrics(logging.Filter):
    """Keeps warnings, and the metrics that TorchServe reads from the worker's output."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or str(record.msg).startswith("[METRICS]")


def silence_torchserve() -> None:
    """Drop the info lines of TorchServe's worker, which writes several per request."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_WarningsAndMetrics())


@functools.cache
def _lock_file(path: str) -> IO[bytes]:
    return Path(path).open("ab")


@contextmanager
def busy_lock() -> Iterator[None]:
    """Hold the busy lock; does nothing without a supervisor."""
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


def is_stopping() -> bool:
    """Whether the server is stopping and accepts no more requests."""
    path = os.environ.get(CLOSING)
    return path is not None and Path(path).exists()


def is_any_busy(path: Path) -> bool:
    """Whether any process holds the busy lock."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
