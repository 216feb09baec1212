"""Defines what a worker process shares with the supervisor: environment variables, log filter, busy lock.

The supervisor imports this module, so it imports nothing heavy.
"""

import ctypes
import fcntl
import functools
import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from handlers.json_lines import JsonLines

INDEX: Final = "RADSERVE_INDEX"
"""Environment variable: path of the model store's index, which lists the sha256 of this archive."""
MAX_RESPONSE: Final = "RADSERVE_MAX_RESPONSE_BYTES"
"""Environment variable: TorchServe's max_response_size; it kills the worker that sends one byte more."""
REQUIRE: Final = "RADSERVE_REQUIRE"
"""Environment variable: attributes that images must state (`handlers.scope.requirements`)."""
DOMAIN: Final = "RADSERVE_DOMAIN"
"""Environment variable: what happens to images unlike the training images (`handlers.domain.assessment.Mode`)."""
PROFILES: Final = "RADSERVE_PROFILES"
"""Environment variable: path of the verified site profiles (`handlers.profile`); empty without any."""
BUSY: Final = "RADSERVE_BUSY"
"""Environment variable: path of a file that workers lock (shared) while they process a batch. The supervisor tries
the exclusive lock to learn whether any worker is busy; the kernel releases it when a process dies."""
CLOSING: Final = "RADSERVE_CLOSING"
"""Environment variable: path of a file; once it exists, the server is stopping and requests get 503."""


def log_to_torchserve(manifest: Mapping[str, Any]) -> None:
    """Write warnings to standard error, and nothing but metrics to standard output.

    TorchServe reads both: it takes metrics from standard output, logs each line of standard error and drops other
    output, of which its own worker writes several lines per request.
    """
    root = logging.getLogger()
    for output in root.handlers:
        if getattr(output, "stream", None) is sys.stdout and not output.filters:
            output.addFilter(lambda record: str(record.msg).startswith("[METRICS]"))
            errors = logging.StreamHandler(sys.stderr)
            errors.setLevel(logging.WARNING)
            model = manifest.get("model", {})
            errors.setFormatter(JsonLines(f"{model.get('modelName', '')} {model.get('modelVersion', '')}"))
            root.addHandler(errors)
            return


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


def release_free_memory() -> None:
    """Return to the system what was freed since the start; glibc keeps it (docs/performance.md)."""
    gc.collect()
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
