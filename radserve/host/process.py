"""Child processes: start, and kill with all their descendants."""

import asyncio
import contextlib
import ctypes
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

_PR_SET_PDEATHSIG: Final = 1


async def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> asyncio.subprocess.Process:
    """Start a process in `folder`, without its standard output: what it logs goes to standard error."""
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        # In its own session, Ctrl-C does not reach it: the supervisor drains it first.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


async def kill(process: asyncio.subprocess.Process) -> None:
    """Kill a process and all its descendants, unless it has exited."""
    if process.returncode is not None:
        return
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        root.suspend()  # it starts no further processes
        descendants = root.children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()
    await process.wait()


def die_with_parent() -> None:
    """Make the kernel stop this process when its parent exits (prctl(2)), so that no process is orphaned."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
