"""`radserve score` with Ray: a job survives the deaths of its workers and of its driver."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import command_line
from tests.radserve.batch.conftest import command, table, write_images

PATIENCE = 500


@pytest.mark.slow
def test_killed_workers_and_a_killed_driver_leave_no_row_missing_or_twice(models: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    originals = write_images(folder, 20)
    for number in range(200):
        os.link(originals[number % 20], folder / f"copy-{number:04}.png")
    arguments = command(folder, output, "--model", "brightness", "--model-store", models)
    start = [*arguments, "--workers", "2", "--shard-size", "4"]
    receipts = output / "receipts"
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(start, stderr=log, cwd=tmp_path)
        try:
            wait(driver, lambda: count(receipts) > 5)
            os.kill(workers(driver)[0].pid, signal.SIGKILL)
            before = count(receipts)
            wait(driver, lambda: count(receipts) > before + 10)
            scorers = workers(driver)
        finally:
            driver.kill()
            driver.wait()
        assert count(receipts) < 55
        _, alive = psutil.wait_procs(scorers, timeout=60)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert command_line.run("score", "--verify", output).returncode == 1
    done = subprocess.run([*arguments, "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 220 images have a row already" in done.stderr
    assert command_line.run("score", "--verify", output).returncode == 0
    rows = table(output)
    assert len(rows) == len({row["file"] for row in rows}) == 220
    assert {row["status"] for row in rows} == {200}


def workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes that score."""
    children = psutil.Process(driver.pid).children(recursive=True)
    return [child for child in children if "MapWorker" in " ".join(child.cmdline())]


def count(folder: Path) -> int:
    return len(list(folder.glob("part-*.json")))


def wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the job ended"
        assert time.monotonic() < end
        time.sleep(0.02)
