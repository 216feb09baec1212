"""Tests of radserve.torchserve.registry: locks of busy workers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers import worker
from radserve.torchserve.registry import any_busy


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "busy"
    file.touch()
    monkeypatch.setenv(worker.BUSY, str(file))
    yield file
    worker._lock_file(str(file)).close()
    worker._lock_file.cache_clear()


def test_a_busy_worker_is_found_by_its_process_id(path: Path) -> None:
    assert not any_busy(path, {os.getpid()})
    with worker.busy_lock():
        assert any_busy(path, {os.getpid()})
        assert not any_busy(path, {os.getpid() + 1})
    assert not any_busy(path, {os.getpid()})


def test_any_busy_worker_counts_without_proc_locks(path: Path, tmp_path: Path) -> None:
    with worker.busy_lock():
        assert any_busy(path, set(), locks=tmp_path / "nothing")
    assert not any_busy(path, set(), locks=tmp_path / "nothing")


def test_a_process_that_waits_for_the_lock_does_not_count(path: Path, tmp_path: Path) -> None:
    inode = path.stat().st_ino
    locks = tmp_path / "locks"
    locks.write_text(
        f"1: FLOCK  ADVISORY  READ 7 fe:00:{inode} 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 8 fe:00:{inode} 0 EOF\n"
    )
    assert any_busy(path, {7}, locks)
    assert not any_busy(path, {8}, locks)
