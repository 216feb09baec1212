import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from radserve.client.concurrency import ordered


def test_results_keep_the_order_of_the_items() -> None:
    def work(number: int) -> int:
        threading.Event().wait(0.01 if number % 3 == 0 else 0)
        return number * 2

    assert list(ordered(work, range(50), 4)) == [number * 2 for number in range(50)]


def test_items_are_processed_in_parallel() -> None:
    together = threading.Barrier(4, timeout=10)
    assert len(list(ordered(lambda _: together.wait(), range(4), 4))) == 4


def test_only_a_bounded_number_of_items_is_taken_in_advance() -> None:
    consumed = 0

    def items() -> Iterator[int]:
        nonlocal consumed
        for number in range(1000):
            consumed += 1
            yield number

    with closing(ordered(lambda number: number, items(), 2)) as results:
        for number in results:
            assert consumed <= number + 8


def test_an_exception_is_raised_in_order_and_ends_the_iteration() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        done.append(number)
        return number

    results = ordered(work, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(done) < 20
