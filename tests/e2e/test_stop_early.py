"""Signals during the start of a real server: from its first instructions until it is ready."""

import contextlib
import itertools
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.radserve.minimal_archive import write_archive
from tests.server import ROOT, command, free_ports

pytestmark = pytest.mark.e2e

DELAYS = (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.2, 3.0, 4.5)
"""Seconds after the signal handler exists: imports, verification, start of Java, loading of models."""


def await_handler(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process handles SIGTERM, or has ended."""
    mask = 1 << (signal.SIGTERM - 1)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if any(line.startswith("SigCgt:") and int(line.split()[1], 16) & mask for line in lines):
                return
        time.sleep(0.001)
    raise AssertionError("the process does not handle SIGTERM")


def stop(arguments: list[str], delay: float, number: signal.Signals) -> tuple[int, str]:
    """Start a process, stop it after a delay, and return its exit code and its log."""
    # The pipe is closed even if the process does not stop.
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT) as process:
        try:
            await_handler(process)
            time.sleep(delay)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            _, log = process.communicate(timeout=60)
            assert psutil.wait_procs(children, timeout=15)[1] == []
            return process.returncode, log.decode()
        finally:
            process.kill()


def test_a_signal_during_the_start_ends_the_server_with_code_0(tmp_path: Path) -> None:
    write_archive(tmp_path / "store")
    signals = itertools.cycle((signal.SIGTERM, signal.SIGINT))
    outcomes = {delay: stop(command(tmp_path / "store", free_ports(3)), delay, next(signals)) for delay in DELAYS}
    assert {delay: outcome for delay, outcome in outcomes.items() if outcome[0] != 0} == {}
    lines = [line for _, log in outcomes.values() for line in log.splitlines()]
    # The archive has no usable handler, so a worker that starts before the signal logs why it ends.
    assert not [line for line in lines if "Traceback" in line and '"logger":"MODEL_LOG"' not in line]


def test_a_signal_during_the_start_ends_server_and_gateway_with_code_0(tmp_path: Path) -> None:
    write_archive(tmp_path / "store")
    *ports, page = free_ports(4)
    arguments = command(tmp_path / "store", ports, "--with-gateway", "--gateway-port", str(page))
    outcomes = {delay: stop(arguments, delay, signal.SIGTERM) for delay in DELAYS}
    assert {delay: outcome for delay, outcome in outcomes.items() if outcome[0] != 0} == {}
