import pytest
from scipy.stats import binomtest

from training.metrics.proportion import wilson


@pytest.mark.parametrize(("count", "total"), [(0, 50), (49, 50), (200, 200), (3, 784)])
def test_the_interval_is_that_of_wilson(count: int, total: int) -> None:
    expected = binomtest(count, total).proportion_ci(method="wilson")
    assert wilson(count, total) == pytest.approx((expected.low, expected.high), abs=1e-4)
