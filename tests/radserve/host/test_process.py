"""Tests of radserve.host.process."""

import asyncio
import os
import sys
from pathlib import Path

import psutil

from radserve.host import process

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("ready", "w").close()
time.sleep(60)
"""


def test_kill_ends_a_process_that_ignores_sigterm_and_its_children(tmp_path: Path) -> None:
    async def steps() -> list[psutil.Process]:
        child = await process.start([sys.executable, "-c", STUBBORN], os.environ, tmp_path)
        async with asyncio.timeout(20):
            while not (tmp_path / "ready").exists():  # noqa: ASYNC110 - written by another process
                await asyncio.sleep(0.01)
        processes = [psutil.Process(child.pid), *psutil.Process(child.pid).children()]
        assert len(processes) == 2
        await process.kill(child)
        assert child.returncode == -9
        return processes

    _, alive = psutil.wait_procs(asyncio.run(steps()), timeout=5)
    assert alive == []


def test_kill_accepts_a_process_that_has_exited(tmp_path: Path) -> None:
    async def steps() -> int | None:
        child = await process.start(["true"], os.environ, tmp_path)
        await child.wait()
        await process.kill(child)
        return child.returncode

    assert asyncio.run(steps()) == 0
