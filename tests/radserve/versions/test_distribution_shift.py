"""Tests of radserve.versions.distribution_shift."""

from math import log

import numpy as np
import pytest
from scipy import stats

from radserve.versions.distribution_shift import (
    _critical,
    is_significant,
    largest_increase,
    population_stability_index,
)


def test_equal_shares_have_no_shift() -> None:
    assert population_stability_index({"a": 3, "b": 1}, {"a": 300, "b": 100}) == pytest.approx(0)


def test_the_index_is_that_of_the_definition() -> None:
    expected = (0.9 - 0.5) * log(0.9 / 0.5) + (0.1 - 0.5) * log(0.1 / 0.5)
    assert population_stability_index({"a": 9, "b": 1}, {"a": 5, "b": 5}) == pytest.approx(expected)


def test_a_value_that_one_side_lacks_has_a_finite_shift() -> None:
    shift = population_stability_index({"a": 9, "new": 1}, {"a": 10})
    assert shift == pytest.approx((0.9 - 1) * log(0.9) + (0.1 - 0.001) * log(0.1 / 0.001))


@pytest.mark.parametrize("freedom", [1, 2, 9, 99])
def test_the_critical_value_is_the_quantile_of_chi_square(freedom: int) -> None:
    assert _critical(freedom) == pytest.approx(stats.chi2.isf(stats.norm.sf(3), freedom), rel=0.03)


def test_the_statistic_is_that_of_the_likelihood_ratio_test() -> None:
    for count in range(1, 40):
        first, second = {"a": 20.0, "b": 20.0}, {"a": 40.0 - count, "b": float(count)}
        table = [[20, 20], [40 - count, count]]
        statistic = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        assert is_significant(first, second) is bool(statistic > _critical(1))


@pytest.mark.parametrize(("first", "second"), [({}, {}), ({"a": 5.0}, {}), ({"a": 50.0}, {"a": 900.0, "b": 0.0})])
def test_without_two_distributions_nothing_is_significant(first: dict[str, float], second: dict[str, float]) -> None:
    assert not is_significant(first, second)


def test_chance_is_rarely_significant() -> None:
    generator = np.random.default_rng(0)
    shares = (0.95, 0.035, 0.015)
    draws = [dict(zip("abc", generator.multinomial(size, shares).tolist(), strict=True)) for size in (40, 800) * 2000]
    wrong = sum(is_significant(first, second) for first, second in zip(draws[::2], draws[1::2], strict=True))
    assert wrong <= 12  # 3 are expected at three standard deviations


def test_the_largest_increase_is_described() -> None:
    before = {"normal": 60, "pneumonia": 40}
    assert largest_increase({"pneumonia": 9, "normal": 1}, before) == "pneumonia 90% instead of 40%"
    assert largest_increase({"pneumonia": 5, "other": 95}, before) == "other 95% instead of 0%"
