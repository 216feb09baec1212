"""Ids of results."""

import time
import uuid

from gateway import history


def test_id_is_uuid7_with_time() -> None:
    result = uuid.UUID(history.new_id())
    assert (result.version, result.variant) == (7, uuid.RFC_4122)
    assert abs((result.int >> 80) / 1000 - time.time()) < 5


def test_ids_are_unique_and_sort_by_time() -> None:
    first = [history.new_id() for _ in range(1000)]
    time.sleep(0.002)
    assert len({*first}) == 1000
    assert max(first) < history.new_id()
