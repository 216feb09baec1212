"""Tests of the gateway benchmark."""

import pytest

from benchmarks import gateway


def test_the_added_latency_is_the_median_of_differences() -> None:
    results = gateway.summary(
        {
            "directly": [[10.0, 10.0, 12.0], [30.0, 30.0, 30.0], [11.0, 11.0, 11.0]],
            "gateway": [[13.0, 13.0, 19.0], [31.0, 31.0, 31.0], [13.5, 13.5, 13.5]],
        }
    )
    assert results["directly"]["added"] == 0
    assert results["gateway"]["added"] == pytest.approx(2.5)
    assert results["gateway"]["p50"] == pytest.approx(13.5)
    assert "| 8 | gateway | 13.50 | 31.00 | +2.50 |" in gateway.table({8: results})
