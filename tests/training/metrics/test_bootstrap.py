from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import bootstrap
from training.metrics.bootstrap import Interval, intervals

VALUES = np.random.default_rng(0).normal(5, 1, 200)


def _mean(indices: NDArray[np.intp]) -> Mapping[str, float]:
    return {"mean": float(VALUES[indices].mean())}


def test_the_interval_contains_the_value_and_has_the_expected_width() -> None:
    result = intervals(_mean, [str(index) for index in range(200)], seed=1)["mean"]
    assert result.low < result.value < result.high
    assert result.value == pytest.approx(VALUES.mean())
    assert result.high - result.low == pytest.approx(2 * 1.96 * VALUES.std() / 200**0.5, rel=0.1)


def test_images_of_one_patient_are_not_independent() -> None:
    alone = intervals(_mean, [str(index) for index in range(200)], seed=1)["mean"]
    order = np.argsort(np.argsort(VALUES))
    together = intervals(_mean, [str(index // 20) for index in order], seed=1)["mean"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_seed_determines_the_result() -> None:
    groups = [str(index) for index in range(200)]
    assert intervals(_mean, groups, seed=1, rounds=50) == intervals(_mean, groups, seed=1, rounds=50)
    assert intervals(_mean, groups, seed=1, rounds=50) != intervals(_mean, groups, seed=2, rounds=50)


def test_rounds_with_an_undefined_metric_are_ignored() -> None:
    def statistic(indices: NDArray[Any]) -> Mapping[str, float]:
        return {"value": float("nan") if 0 in indices else 1.0}

    result = intervals(statistic, ["a", "b", "c"], seed=1, rounds=50)["value"]
    assert (result.low, result.high) == (1, 1)


def test_intervals_are_rounded_in_json() -> None:
    assert Interval(0.123456, 0.1, 0.2).to_json() == {"value": 0.1235, "ci95": [0.1, 0.2]}


def test_an_undefined_metric_is_null_in_json() -> None:
    result = intervals(lambda _: {"value": float("nan")}, ["a", "b"], seed=1, rounds=5)["value"]
    assert result.to_json() == {"value": None, "ci95": None}


def test_groups_are_drawn_as_a_whole() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    seen = []

    def statistic(indices: NDArray[np.intp]) -> Mapping[str, float]:
        seen.append(sorted(groups[index] for index in indices))
        assert all(list(indices).count(index) == list(indices).count(groups.index(groups[index])) for index in indices)
        return {"value": 1.0}

    intervals(statistic, groups, seed=1, rounds=50)
    assert all(result.count("b") % 3 == 0 and result.count("a") % 2 == 0 for result in seen)
    assert len({len(result) for result in seen}) > 3


def test_the_description_of_the_intervals() -> None:
    assert bootstrap.describe("patients") == "95% confidence interval, percentile bootstrap over patients, 2000 rounds"
