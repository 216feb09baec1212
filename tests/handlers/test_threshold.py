"""Activation, calibration and threshold of a classifier."""

import numpy as np
import pytest

from handlers.errors import InternalError
from handlers.recipe import Recipe, parse
from handlers.threshold import decide, with_prevalence
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


def test_the_bias_is_added_before_the_temperature_divides() -> None:
    biased = recipe_with(calibration={"temperature": 2, "bias": 1.5, "fitted": "by hand"})
    assert decide(logits(0, 1), biased).probabilities == decide(logits(0, 2.5), recipe_with()).probabilities
    sigmoid = biased.model_copy(update={"activation": "sigmoid"})
    assert decide(logits(1), sigmoid).probabilities == pytest.approx(decide(logits(0, 1), biased).probabilities)


@pytest.mark.parametrize("prevalence", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("gap", [-8, 0, 0.80, 0.82, 8])
def test_a_prevalence_gives_the_posterior_of_bayes_and_keeps_the_decision(prevalence: float, gap: float) -> None:
    recipe = recipe_with(calibration={"temperature": 1, "prevalence": 0.5, "fitted": "by hand"})
    assumed = decide(logits(0, gap), recipe)
    stated = with_prevalence(assumed, "bright", prevalence)
    # With equal shares, the odds of the labels are the likelihood ratio of the image.
    bright, dark = prevalence * np.exp(np.float64(np.float32(gap))), 1 - prevalence
    assert stated.probabilities["bright"] == pytest.approx(bright / (bright + dark))
    assert sum(stated.probabilities.values()) == pytest.approx(1)
    assert (stated.label, stated.positive, stated.prevalence) == (assumed.label, assumed.positive, prevalence)
    assert stated.threshold is not None
    assert (stated.probabilities["bright"] >= stated.threshold) == stated.positive


def test_the_assumed_prevalence_changes_nothing() -> None:
    recipe = recipe_with(calibration={"temperature": 1, "prevalence": 0.3, "fitted": "by hand"})
    assumed = decide(logits(0, 1), recipe)
    assert with_prevalence(assumed, "bright", 0.3).probabilities == pytest.approx(assumed.probabilities)
