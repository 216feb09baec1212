"""Tests of radserve.versions.distribution_shift."""

from collections import Counter
from math import log

import numpy as np
import pytest
from scipy import stats

from radserve.versions.distribution_shift import (
    _critical,
    _merge,
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
    assert 1 <= _critical(freedom) / stats.chi2.isf(stats.norm.sf(4), freedom) < 1.1


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
    assert wrong <= 1  # 0.1 are expected at four standard deviations


def test_the_largest_increase_is_described() -> None:
    before = {"normal": 60, "pneumonia": 40}
    assert largest_increase({"pneumonia": 9, "normal": 1}, before) == "pneumonia 90% instead of 40%"
    assert largest_increase({"pneumonia": 5, "other": 95}, before) == "other 95% instead of 0%"


def test_rare_values_are_merged_but_not_into_one() -> None:
    pairs: list[tuple[float, float]] = [(0, 1), (2, 1), (10, 9), (4, 3), (0, 0)]
    assert _merge(pairs) == [(6, 5), (10, 9)]
    assert _merge([(1, 0), (19, 20)]) == [(1, 0), (19, 20)]
    assert _merge([(10, 5), (10, 15), (20, 20)]) == [(10, 5), (10, 15), (20, 20)]


@pytest.mark.parametrize("labels", [2, 10, 50])
def test_chance_rarely_exceeds_the_limit_in_a_step_that_is_tested_after_each_request(labels: int) -> None:
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(50):
        draws = generator.integers(labels, size=(200, 2)).astype(str)
        counts = [Counter(draws[:20, side].tolist()) for side in (0, 1)]
        for requests in draws[20:].tolist():
            for side in (0, 1):
                counts[side][requests[side]] += 1
            if population_stability_index(*counts) > 0.25 and is_significant(*counts):
                wrong += 1
                break
    assert wrong <= 2
