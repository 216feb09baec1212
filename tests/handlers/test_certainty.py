"""Prediction sets of a classifier with two labels."""

import math

import numpy as np
import pytest

from handlers.certainty import band, certainty
from handlers.errors import RecipeError
from handlers.recipe import Decision, Uncertainty, parse
from tests.conftest import brightness_recipe


def section(dark: float, bright: float, margin: float = 0) -> Uncertainty:
    quantiles = {"dark": dark, "bright": bright}
    return Uncertainty(level=0.9, quantiles=quantiles, margin=margin, fitted="by hand", split="0" * 64)


def decision(threshold: float) -> Decision:
    return Decision(positive="bright", threshold=threshold, chosen="by hand")


@pytest.mark.parametrize(
    ("label", "dark", "quantiles", "status", "labels"),
    [
        ("dark", 0.9, (0.2, 0.2), "certain", ("dark",)),
        ("bright", 0.1, (0.2, 0.2), "certain", ("bright",)),
        ("dark", 0.6, (0.2, 0.2), "uncertain", ()),
        ("dark", 0.6, (0.5, 0.7), "uncertain", ("dark", "bright")),
        ("bright", 0.9, (0.2, 0.2), "uncertain", ("dark",)),  # a low threshold decided for the less probable label
        ("dark", 0.0, (1.0, 0.5), "uncertain", ("dark", "bright")),  # the quantile of too few patients
    ],
)
def test_a_result_is_certain_if_its_set_contains_its_label_alone(
    label: str, dark: float, quantiles: tuple[float, float], status: str, labels: tuple[str, ...]
) -> None:
    found = certainty(label, {"dark": dark, "bright": 1 - dark}, decision(0.5), section(*quantiles))
    assert found.document == {"status": status, "prediction_set": list(labels), "level": 0.9}


@pytest.mark.parametrize(
    ("bright", "label", "status"),
    [
        (0.18, "dark", "certain"),
        (0.19, "dark", "uncertain"),
        (0.25, "bright", "uncertain"),
        (0.26, "bright", "certain"),
    ],
)
def test_a_result_within_the_margin_of_the_threshold_is_uncertain(bright: float, label: str, status: str) -> None:
    """Re-encoding such an image could change its label."""
    probabilities = {"dark": 1 - bright, "bright": bright}
    assert certainty(label, probabilities, decision(0.22), section(0.22, 0.78)).status == "certain"
    found = certainty(label, probabilities, decision(0.22), section(0.22, 0.78, 0.2))
    assert found.status == status
    assert found.prediction_set == (("dark", "bright") if status == "uncertain" else (label,))


def test_a_margin_is_one_of_log_odds() -> None:
    low, high = band(0.2, 0.5)
    odds = [math.log(share / (1 - share)) for share in (low, 0.2, high)]
    assert np.diff(odds) == pytest.approx([0.5, 0.5])
    assert band(0.2, 0) == (0.2, 0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uncertainty": section(0.1, 0.1).model_dump(), "decision": None}, "uncertainty needs task classification"),
        (
            {"uncertainty": section(0.1, 0.1).model_dump() | {"quantiles": {"dark": 0.1}}},
            r"uncertainty.quantiles has labels \['dark'\]",
        ),
        (
            {"calibration": {"temperature": 1, "prevalence": 0.5, "fitted": "x"}, "decision": None},
            "calibration.prevalence needs task classification",
        ),
        (
            {"calibration": {"temperature": 1, "bias": 1, "fitted": "x"}, "decision": None},
            "calibration.bias needs task classification",
        ),
    ],
)
def test_a_recipe_accepts_only_what_two_labels_give_a_meaning(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(brightness_recipe() | changes, source="test")
