"""The worker process: log filter and busy lock."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from handlers import worker


def test_warnings_are_json_lines_on_standard_error_and_metrics_remain_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    handler = logging.StreamHandler(sys.stdout)
    root.handlers = [handler]
    level = root.level
    root.setLevel(logging.INFO)
    try:
        worker.log_to_torchserve({"model": {"modelName": "chest", "modelVersion": "1.0.0"}})
        worker.log_to_torchserve({})  # changes nothing
        logging.info("Backend received inference at: 1")  # noqa: LOG015 - as TorchServe does
        logging.info("[METRICS]PredictionTime.ms:1")  # noqa: LOG015
        logging.warning("trouble\u2028here")  # noqa: LOG015
        logging.error("a\nb", extra={"request_id": "r-1"}, exc_info=ValueError("c\nd"))  # noqa: LOG015
    finally:
        root.handlers = before
        root.setLevel(level)
    output = capsys.readouterr()
    assert output.out.splitlines() == ["[METRICS]PredictionTime.ms:1"]
    warning, error = map(json.loads, output.err.splitlines())
    assert (warning["level"], warning["model"], warning["message"]) == ("WARNING", "chest 1.0.0", "trouble\u2028here")
    assert (error["message"], error["request_id"], error["error"]) == ("a\nb", "r-1", "ValueError: c\nd")
    assert "request_id" not in warning


HOLD = """
import sys, time
from handlers.worker import busy_lock
with busy_lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_busy_lock_is_visible_to_other_processes_and_ends_with_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "busy"
    monkeypatch.setenv(worker.BUSY, str(path))
    assert not worker.is_any_busy(path)
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with worker.busy_lock():  # shared: workers do not wait for each other
            assert worker.is_any_busy(path)
        assert worker.is_any_busy(path)
        holder.kill()
    assert not worker.is_any_busy(path)
    worker._lock_file(str(path)).close()
    worker._lock_file.cache_clear()


def test_memory_that_was_freed_between_used_parts_returns_to_the_system() -> None:
    process = psutil.Process()
    blocks = [bytes(4000) for _ in range(25_000)]
    last = blocks.pop()
    before = process.memory_info().rss
    blocks.clear()
    kept = process.memory_info().rss
    worker.release_free_memory()
    assert process.memory_info().rss < before - 80e6
    assert kept > before - 40e6, "what is freed is kept otherwise"
    assert len(last) == 4000
