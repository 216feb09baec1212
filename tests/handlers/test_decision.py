"""Logits to labels."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.decision import decide
from handlers.errors import InternalError
from handlers.recipe import Recipe, parse
from tests.conftest import brightness_recipe


def made(**changes: object) -> Recipe:
    return parse(brightness_recipe() | changes, source="test")


def logits(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_the_temperature_divides_the_logits() -> None:
    decision = decide(logits(0.0, 2.0), made())
    assert decision.probabilities["bright"] == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(("gap", "label", "positive"), [(0.80, "dark", False), (0.82, "bright", True)])
def test_the_positive_label_is_given_from_the_threshold_on_and_not_at_one_half(
    gap: float, label: str, positive: bool
) -> None:
    decision = decide(logits(0.0, gap), made())  # threshold .6 is a gap of 2 * ln(.6 / .4) = .811
    assert (decision.label, decision.positive, decision.threshold) == (label, positive, 0.6)


def test_probabilities_sum_to_one_at_extreme_logits() -> None:
    decision = decide(logits(-3e4, 3e4), made())
    assert sum(decision.probabilities.values()) == pytest.approx(1)


def test_one_sigmoid_logit_is_the_probability_of_the_second_label() -> None:
    decision = decide(logits(2.0), made(activation="sigmoid"))
    assert decision.probabilities["bright"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_without_a_decision_the_most_probable_label_is_given() -> None:
    decision = decide(logits(1, 5, 2), made(labels=["a", "b", "c"], decision=None))
    assert (decision.label, decision.positive, decision.threshold) == ("b", None, None)


@pytest.mark.parametrize("wrong", [logits(np.nan, 1), logits(np.inf, 1), logits(1, 2, 3)])
def test_no_label_is_given_to_what_is_no_number(wrong: np.ndarray) -> None:
    with pytest.raises(InternalError):
        decide(wrong, made())
