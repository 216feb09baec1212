"""Tests of radserve.torchserve.capacity."""

from hypothesis import given
from hypothesis import strategies as st

from radserve.torchserve.capacity import SMALL, Capacity, plan

BODY = 44_805_461


def test_more_memory_admits_more_bodies() -> None:
    assert plan(2 << 30, BODY, 128) == Capacity(256 << 20, 80, 1)
    assert plan(4 << 30, BODY, 128) == Capacity(512 << 20, 128, 4)
    assert plan(8 << 30, BODY, 128) == Capacity(1 << 30, 128, 11)
    assert plan(16 << 30, BODY, 128) == plan(1 << 40, BODY, 128) == Capacity(2 << 30, 128, 25)


@given(st.integers(1 << 20, 1 << 42), st.integers(1_000_000, BODY), st.integers(1, 4096))
def test_all_admitted_bodies_fit_into_the_heap(memory: int, max_body: int, requests: int) -> None:
    capacity = plan(memory, max_body, requests)
    assert capacity.requests * SMALL + capacity.large * max_body <= capacity.heap * 0.6 or capacity.large == 1
    assert capacity.requests * SMALL + max_body <= capacity.heap
    assert 1 <= capacity.per_key <= capacity.requests / 2 <= capacity.per_address <= capacity.requests


def test_the_template_counts_the_digits_of_a_small_body() -> None:
    assert str(SMALL) == "9" * len(str(SMALL))
