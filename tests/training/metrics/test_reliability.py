from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from training.metrics import reliability


def test_each_item_is_in_the_bin_of_its_probability() -> None:
    found = reliability.bins(np.array([True, False, True]), np.array([0.0, 0.49, 1.0]), count=2)
    assert found.weight.tolist() == [2, 1]
    assert found.expected.tolist() == pytest.approx([0.49, 1])
    assert found.found.tolist() == [1, 1]
    assert found.error == pytest.approx((0.51 + 0) / 3)


def test_the_error_agrees_with_torchmetrics() -> None:
    draw = np.random.default_rng(0)
    probability = draw.random(500)
    positive = draw.random(500) < probability**2
    told = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(positive).int(), n_bins=15)
    assert reliability.bins(positive, probability).error == pytest.approx(told.item(), abs=1e-4)


def test_a_weight_counts_as_that_many_copies() -> None:
    draw = np.random.default_rng(1)
    positive, probability, times = draw.random(50) < 0.5, draw.random(50), draw.integers(0, 4, 50)
    weighed = reliability.bins(positive, probability, times.astype(float))
    copied = reliability.bins(np.repeat(positive, times), np.repeat(probability, times))
    assert weighed.error == pytest.approx(copied.error)
