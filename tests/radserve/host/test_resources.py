"""Threads and workers together never exceed the cores."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.host.resources import WorkerPlan, cores, plan


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
def test_cores_are_shared(models: int, available: int, workers: int | None, expected: WorkerPlan) -> None:
    assert plan(models, available, workers) == expected


@given(st.integers(1, 20), st.integers(1, 256))
def test_no_core_gets_two_threads_unless_there_are_more_models_than_cores(models: int, available: int) -> None:
    shares = plan(models, available)
    assert shares.workers * shares.threads * models <= max(available, models)


def test_cores_are_no_more_than_the_affinity_mask() -> None:
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
