"""Tests of radserve.host.resources."""

import os
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.errors import ServeError
from radserve.host.resources import WorkerPlan, cores, memory, parse_memory, plan


@pytest.mark.parametrize(
    ("models", "available", "workers", "expected"),
    [
        (1, 2, None, WorkerPlan(2, 1)),
        (2, 2, None, WorkerPlan(1, 1)),
        (10, 2, None, WorkerPlan(1, 1)),
        (1, 64, None, WorkerPlan(8, 8)),
        (1, 8, 2, WorkerPlan(2, 4)),
        (1, 1, None, WorkerPlan(1, 1)),
    ],
)
def test_cores_are_divided_among_models_and_workers(
    models: int, available: int, workers: int | None, expected: WorkerPlan
) -> None:
    assert plan(models, available, workers) == expected


@given(st.integers(1, 20), st.integers(1, 256))
def test_threads_do_not_exceed_cores_unless_models_do(models: int, available: int) -> None:
    division = plan(models, available)
    assert division.workers * division.threads * models <= max(available, models)


def test_cores_do_not_exceed_the_affinity_mask() -> None:
    assert 1 <= cores() <= len(os.sched_getaffinity(0))


def test_memory_is_limited_by_every_control_group_above(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    membership = tmp_path / "membership"
    assert memory(tmp_path, membership) == total  # no control groups
    membership.write_text("0::/system.slice/radserve.service\n")
    group = tmp_path / "system.slice" / "radserve.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory(tmp_path, membership) == total
    (group.parent / "memory.max").write_text("2000000\n")
    assert memory(tmp_path, membership) == 2_000_000
    (group / "memory.max").write_text("1000000\n")
    assert memory(tmp_path, membership) == 1_000_000


def test_memory_is_limited_by_an_old_control_group(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("3000000\n")
    assert memory(tmp_path, tmp_path / "missing") == 3_000_000
    assert 0 < memory() <= psutil.virtual_memory().total


def test_memory_is_written_as_for_docker() -> None:
    assert parse_memory("") == memory()
    sizes = {"1000": 1000, "512m": 512 << 20, "8g": 8 << 30, "2GB": 2 << 30}
    assert {text: parse_memory(text) for text in sizes} == sizes
    for text in ("8 g", "-1", "8t", "lots"):
        with pytest.raises(ServeError, match="--memory has value"):
            parse_memory(text)
