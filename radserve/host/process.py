"""TorchServe's process: started with what it needs, ended with everything that it started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1


async def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> asyncio.subprocess.Process:
    """Start it; what it says goes to standard error."""
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        # A session of its own: Ctrl-C reaches the supervisor alone, which then drains.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop it and every process that it started."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout=10.0)
        except TimeoutError:
            logger.warning("TorchServe did not stop within 10 s; it is killed")
            process.kill()
            await process.wait()
    _, alive = psutil.wait_procs(children, timeout=3.0)
    for child in alive:
        child.kill()


def die_with_parent() -> None:
    """Ask the kernel to end this process with its parent (prctl(2)), so that no Java is ever orphaned."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
