"""How workers start: as forks of the fork server, or as fresh processes."""

import asyncio
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import psutil

from radserve.errors import ServeError
from radserve.host import process, unix_socket
from radserve.host.environment import inherited_environment
from radserve.host.run_directory import RunDirectory
from radserve.torchserve import fork_client
from radserve.torchserve.fork_server import NAME
from radserve.torchserve.launch import worker_environment

WorkerStart = Literal["fork", "fresh"]
"""`fork`: workers are forks of a process that has imported torch. `fresh`: each one imports it again."""

_CLIENT: Final = Path(fork_client.__file__)
_MAX_REASON: Final = 300
_REAP_PERIOD: Final = 5.0


def write_launcher(run_directory: RunDirectory) -> str:
    """Write the program that takes Python's place in commands of workers, and return its path."""
    command = shlex.join([sys.executable, "-I", "-S", str(_CLIENT), str(run_directory.forks)])
    run_directory.python.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    run_directory.python.chmod(0o700)
    return str(run_directory.python)


async def run_fork_server(run_directory: RunDirectory, store: Path, threads: int) -> None:
    """Run the fork server until it exits, which raises ServeError; its forks remain then, but end with the caller's.

    While it imports, clients wait; after it has exited, they start fresh workers.
    """
    with unix_socket.listen(run_directory.forks) as listener:
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "radserve.torchserve.fork_server",
            str(listener.fileno()),
            # OpenBLAS would start threads; handlers compute with torch, and with NumPy only what is small.
            env=environment(store, threads) | {"OPENBLAS_NUM_THREADS": "1"},
            cwd=run_directory.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            preexec_fn=process.die_with_parent,
        )
        try:
            _, errors = await server.communicate()
        finally:
            await process.kill(server)
    lines = errors.decode(errors="replace").strip().splitlines()
    reason = f": {lines[-1][:_MAX_REASON]}" if lines else "."
    raise ServeError(f"The fork server exited with code {server.returncode}{reason}")


async def reap_workers(period_seconds: float = _REAP_PERIOD) -> None:
    """Reap the forks that a dead fork server has left, until cancelled.

    They become children of process 1, which in a container is the supervisor. Children that asyncio started have other
    names, and are left to it.
    """
    while True:
        await asyncio.sleep(period_seconds)
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.name() == NAME:
                    os.waitpid(child.pid, os.WNOHANG)  # noqa: ASYNC222 - does not wait


def environment(store: Path, threads: int) -> dict[str, str]:
    """Return the variables of a worker that libraries read when they are loaded; Java keeps `MALLOC_*` for itself."""
    variables = inherited_environment() | worker_environment(store, threads)
    return {name: text for name, text in variables.items() if not name.startswith("MALLOC_")}
