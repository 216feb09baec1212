import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from training.metrics import reliability


def test_images_are_binned_by_probability() -> None:
    result = reliability.bins(np.array([True, False, True]), np.array([0.0, 0.49, 1.0]), count=2)
    assert result.weight.tolist() == [2, 1]
    assert result.expected.tolist() == pytest.approx([0.49, 1])
    assert result.observed.tolist() == [1, 1]
    assert result.error == pytest.approx((0.51 + 0) / 3)


def test_the_error_agrees_with_torchmetrics() -> None:
    draw = np.random.default_rng(0)
    probability = draw.random(500)
    positive = draw.random(500) < probability**2
    reference = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(positive).int(), n_bins=15)
    assert reliability.bins(positive, probability).error == pytest.approx(reference.item(), abs=1e-4)


def test_a_weight_equals_that_many_copies() -> None:
    draw = np.random.default_rng(1)
    positive, probability, times = draw.random(50) < 0.5, draw.random(50), draw.integers(0, 4, 50)
    weighted = reliability.bins(positive, probability, times.astype(float))
    copied = reliability.bins(np.repeat(positive, times), np.repeat(probability, times))
    assert weighted.error == pytest.approx(copied.error)
