"""Which workers have a batch in hand, as the kernel tells it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers import worker
from radserve.torchserve import worker_locks


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "busy"
    file.touch()
    monkeypatch.setenv(worker.BUSY, str(file))
    yield file
    worker._lock_file(str(file)).close()
    worker._lock_file.cache_clear()


def test_a_batch_counts_for_the_process_that_has_it(path: Path) -> None:
    assert not worker_locks.anyone(path, {os.getpid()})
    with worker.busy_lock():
        assert worker_locks.anyone(path, {os.getpid()})
        assert not worker_locks.anyone(path, {os.getpid() + 1})
    assert not worker_locks.anyone(path, {os.getpid()})


def test_where_the_kernel_says_nothing_anybody_counts(path: Path, tmp_path: Path) -> None:
    with worker.busy_lock():
        assert worker_locks.anyone(path, set(), locks=tmp_path / "nothing")
    assert not worker_locks.anyone(path, set(), locks=tmp_path / "nothing")


def test_one_who_waits_for_the_lock_has_none(path: Path, tmp_path: Path) -> None:
    inode = path.stat().st_ino
    locks = tmp_path / "locks"
    locks.write_text(
        f"1: FLOCK  ADVISORY  READ 7 fe:00:{inode} 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 8 fe:00:{inode} 0 EOF\n"
    )
    assert worker_locks.anyone(path, {7}, locks)
    assert not worker_locks.anyone(path, {8}, locks)
