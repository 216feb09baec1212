"""Tests of radserve.host.resources."""

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
