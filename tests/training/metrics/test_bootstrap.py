from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import bootstrap
from training.metrics.bootstrap import Interval, intervals

VALUES = np.random.default_rng(0).normal(5, 1, 200)


def _mean(places: NDArray[np.intp]) -> Mapping[str, float]:
    return {"mean": float(VALUES[places].mean())}


def test_the_interval_holds_the_figure_and_has_the_known_width() -> None:
    found = intervals(_mean, [str(place) for place in range(200)], seed=1)["mean"]
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(VALUES.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * VALUES.std() / 200**0.5, rel=0.1)


def test_images_of_one_patient_do_not_count_as_independent() -> None:
    alone = intervals(_mean, [str(place) for place in range(200)], seed=1)["mean"]
    order = np.argsort(np.argsort(VALUES))
    together = intervals(_mean, [str(place // 20) for place in order], seed=1)["mean"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_seed_decides() -> None:
    groups = [str(place) for place in range(200)]
    assert intervals(_mean, groups, seed=1, rounds=50) == intervals(_mean, groups, seed=1, rounds=50)
    assert intervals(_mean, groups, seed=1, rounds=50) != intervals(_mean, groups, seed=2, rounds=50)


def test_rounds_without_a_figure_do_not_count() -> None:
    def statistic(places: NDArray[Any]) -> Mapping[str, float]:
        return {"value": float("nan") if 0 in places else 1.0}

    found = intervals(statistic, ["a", "b", "c"], seed=1, rounds=50)["value"]
    assert (found.low, found.high) == (1, 1)


def test_rounded_for_json() -> None:
    assert bootstrap.rounded(Interval(0.123456, 0.1, 0.2)) == {"value": 0.1235, "ci95": [0.1, 0.2]}


def test_a_figure_that_is_not_defined_is_null_in_json() -> None:
    found = intervals(lambda _: {"value": float("nan")}, ["a", "b"], seed=1, rounds=5)["value"]
    assert bootstrap.rounded(found) == {"value": None, "ci95": None}


def test_all_images_of_a_drawn_group_come_together() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    seen = []

    def statistic(places: NDArray[np.intp]) -> Mapping[str, float]:
        seen.append(sorted(groups[place] for place in places))
        assert all(list(places).count(place) == list(places).count(groups.index(groups[place])) for place in places)
        return {"value": 1.0}

    intervals(statistic, groups, seed=1, rounds=50)
    assert all(found.count("b") % 3 == 0 and found.count("a") % 2 == 0 for found in seen)
    assert len({len(found) for found in seen}) > 3


def test_the_intervals_are_told_in_words() -> None:
    assert bootstrap.words("patients") == "95 %, percentile bootstrap over patients, 2000 rounds"
