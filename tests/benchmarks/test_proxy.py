"""Tests of the proxy benchmark."""

import pytest

from benchmarks import proxy


def test_the_added_latency_is_the_median_of_differences() -> None:
    rounds = [
        {"directly": 10.0, "nginx": 10.5},
        {"directly": 30.0, "nginx": 30.2},
        {"directly": 11.0, "nginx": 11.4},
    ]
    results = proxy.summary(rounds)
    assert results["directly"] == {"p50": 11.0, "added": 0.0, "ratio": 1.0}
    assert results["nginx"]["added"] == pytest.approx(0.4)
    assert results["nginx"]["ratio"] == pytest.approx(11.4 / 11)
    assert "| nginx | 11.40 | +0.40 | 1.036 |" in proxy.table(results)
