"""The figures of benchmarks/front.py are what its rounds say."""

from __future__ import annotations

import pytest

from benchmarks import front


def test_what_is_added_is_the_median_of_the_rounds_differences_not_the_difference_of_medians() -> None:
    rounds = [
        {"directly": 10.0, "nginx": 10.5},
        {"directly": 30.0, "nginx": 30.2},
        {"directly": 11.0, "nginx": 11.4},
    ]
    found = front.summary(rounds)
    assert found["directly"] == {"p50": 11.0, "added": 0.0, "ratio": 1.0}
    assert found["nginx"]["added"] == pytest.approx(0.4)
    assert found["nginx"]["ratio"] == pytest.approx(11.4 / 11)
    assert "| nginx | 11.40 | +0.40 | 1.036 |" in front.table(found)
