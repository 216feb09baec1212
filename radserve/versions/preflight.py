"""Starts an archive's handler in a separate process before TorchServe registers it.

TorchServe reports only that a worker died, and restarts it again and again. The separate process takes the same
steps as a worker at its start, and its error message can be read.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from radserve.errors import ChangeError, VersionFailedError
from radserve.host.process import die_with_parent
from radserve.torchserve import fork_client, worker_start
from radserve.torchserve.verified_models import VerifiedModel

_PROGRAM: Final = Path(__file__).with_name("preflight_program.py")
_MAX_REASON: Final = 300
_NICENESS: Final = 5
"""Workers answer requests meanwhile. On a saturated machine, the process still gets a third of a worker's time."""


def _start_process() -> None:
    die_with_parent()
    os.nice(_NICENESS)


def _environment(folder: Path, store: Path, threads: int) -> dict[str, str]:
    variables = worker_start.environment(store, threads)
    search_path = os.pathsep.join([str(folder), *filter(None, [variables.get("PYTHONPATH")])])
    return variables | {"PYTHONPATH": search_path, "CUDA_VISIBLE_DEVICES": ""}


async def check(
    model: VerifiedModel, folder: Path, store: Path, threads: int, max_seconds: float, python: str = sys.executable
) -> None:
    """Start an unpacked archive's handler as a worker does; a VersionFailedError has the last line that it wrote.

    `python` starts the process, as it starts workers.

    Raises ChangeError if the server may be at fault: it is too slow, or lacks memory.
    """
    entry = model.entry
    process = await asyncio.create_subprocess_exec(
        python,
        str(_PROGRAM),
        str(folder),
        cwd=folder,
        env=_environment(folder, store, threads),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=_start_process,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), max_seconds)
    except TimeoutError as error:
        raise ChangeError(f"{entry.name} {entry.version}: did not start within {max_seconds:g} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == -signal.SIGKILL:
        raise ChangeError(f"{entry.name} {entry.version}: its process was killed; the server may lack memory.")
    if process.returncode != 0:
        text = errors.decode(errors="replace").strip()
        lines = [line for line in text.splitlines() if not line.startswith(fork_client.FALLBACK)]
        reason = lines[-1][:_MAX_REASON] if lines else f"exit code {process.returncode} without an error message."
        raise VersionFailedError(f"{entry.name} {entry.version}: does not start: {reason}")
