"""Activation, calibration and threshold of a classifier."""

import numpy as np
import pytest

from handlers.errors import InternalError
from handlers.recipe import Recipe, parse
from handlers.threshold import decide
from tests.conftest import brightness_recipe


def recipe_with(**changes: object) -> Recipe:
    return parse(brightness_recipe() | changes, source="test")


def logits(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_the_temperature_divides_the_logits() -> None:
    decision = decide(logits(0.0, 2.0), recipe_with())
    assert decision.probabilities["bright"] == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(("gap", "label", "positive"), [(0.80, "dark", False), (0.82, "bright", True)])
def test_the_threshold_decides_the_label_not_one_half(gap: float, label: str, positive: bool) -> None:
    decision = decide(logits(0.0, gap), recipe_with())  # threshold .6 is a gap of 2 * ln(.6 / .4) = .811
    assert (decision.label, decision.positive, decision.threshold) == (label, positive, 0.6)


def test_probabilities_sum_to_one_at_extreme_logits() -> None:
    decision = decide(logits(-3e4, 3e4), recipe_with())
    assert sum(decision.probabilities.values()) == pytest.approx(1)


def test_one_sigmoid_logit_is_the_probability_of_the_second_label() -> None:
    decision = decide(logits(2.0), recipe_with(activation="sigmoid"))
    assert decision.probabilities["bright"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_without_a_decision_the_most_probable_label_wins() -> None:
    decision = decide(logits(1, 5, 2), recipe_with(labels=["a", "b", "c"], decision=None))
    assert (decision.label, decision.positive, decision.threshold) == ("b", None, None)


@pytest.mark.parametrize("wrong", [logits(np.nan, 1), logits(np.inf, 1), logits(1, 2, 3)])
def test_invalid_logits_are_an_internal_error(wrong: np.ndarray) -> None:
    with pytest.raises(InternalError):
        decide(wrong, recipe_with())
