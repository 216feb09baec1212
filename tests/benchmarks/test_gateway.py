"""The figures of benchmarks/gateway.py are what its rounds say."""

from __future__ import annotations

import pytest

from benchmarks import gateway


def test_what_is_added_is_the_median_of_the_rounds_differences() -> None:
    found = gateway.summary(
        {
            "directly": [[10.0, 10.0, 12.0], [30.0, 30.0, 30.0], [11.0, 11.0, 11.0]],
            "gateway": [[13.0, 13.0, 19.0], [31.0, 31.0, 31.0], [13.5, 13.5, 13.5]],
        }
    )
    assert found["directly"]["added"] == 0
    assert found["gateway"]["added"] == pytest.approx(2.5)
    assert found["gateway"]["p50"] == pytest.approx(13.5)
    assert "| 8 | gateway | 13.50 | 31.00 | +2.50 |" in gateway.table({8: found})
