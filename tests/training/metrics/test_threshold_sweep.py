from __future__ import annotations

import numpy as np
import pytest

from training.metrics.threshold_sweep import rank

POSITIVE = np.array([True, True, True, False, False])
SCORE = np.array([0.9, 0.6, 0.3, 0.6, 0.1])


def test_a_sweep_counts_from_the_highest_threshold_down() -> None:
    sweep = rank(POSITIVE, SCORE).sweep()
    assert sweep.thresholds.tolist() == [0.9, 0.6, 0.3, 0.1]
    assert sweep.hits.tolist() == [1, 2, 3, 3]
    assert sweep.alarms.tolist() == [0, 1, 1, 2]
    assert sweep.sensitivity.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert sweep.specificity.tolist() == pytest.approx([1, 1 / 2, 1 / 2, 0])
    assert sweep.precision.tolist() == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_counts_as_that_many_copies(seed: int) -> None:
    draw = np.random.default_rng(seed)
    positive, score, times = draw.random(200) < 0.4, np.round(draw.random(200), 2), draw.integers(0, 4, 200)
    weighed = rank(positive, score).sweep(times.astype(float))
    copied = rank(np.repeat(positive, times), np.repeat(score, times)).sweep()
    assert weighed.auroc == pytest.approx(copied.auroc)
    assert weighed.average_precision == pytest.approx(copied.average_precision)


def test_a_class_that_is_absent_gives_no_figure() -> None:
    sweep = rank(~POSITIVE & POSITIVE, SCORE).sweep()
    assert np.isnan([sweep.auroc, sweep.average_precision]).all()
    assert np.isnan(sweep.sensitivity).all()
