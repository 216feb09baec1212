import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluators import outputs
from training.metrics import calibration
from training.metrics.reliability import bins


def _sample(count: int = 20_000) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return logits, and labels drawn with the probabilities of these logits."""
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 2, (count, 2))
    targets = (draw.random(count) < outputs.probabilities(logits, 1)[:, 1]).astype(np.int64)
    return logits, targets


@pytest.mark.parametrize("known", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_recovered(known: float) -> None:
    logits, targets = _sample()
    assert calibration.temperature(logits * known, targets) == pytest.approx(known, rel=0.03)


def test_temperature_calibrates_overconfident_logits() -> None:
    logits, targets = _sample()
    positive = targets == 1
    before = outputs.probabilities(logits * 3, 1)[:, 1]
    after = outputs.probabilities(logits * 3, calibration.temperature(logits * 3, targets))[:, 1]
    assert bins(positive, after).error < 0.02 < bins(positive, before).error


def test_a_weight_equals_repeated_images() -> None:
    logits, targets = _sample(500)
    weights = np.random.default_rng(1).integers(1, 4, 500)
    repeated = calibration.temperature(logits.repeat(weights, axis=0), targets.repeat(weights))
    assert calibration.temperature(logits, targets, weights.astype(float)) == pytest.approx(repeated, rel=1e-5)


def test_the_loss_is_the_mean_negative_log_likelihood() -> None:
    logits = np.array([[0.0, np.log(3)], [1000.0, 0.0]])
    assert calibration.loss(logits, np.array([1, 0])) == pytest.approx(-np.log(0.75) / 2)


@pytest.mark.parametrize("known", [-1.5, 0.0, 2.0])
def test_a_known_offset_is_recovered(known: float) -> None:
    logits, targets = _sample(4000)
    assert calibration.offset(logits * 2 - [0, known], targets) == pytest.approx(known, abs=0.2)
