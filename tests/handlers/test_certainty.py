"""Prediction sets of a classifier with two labels."""

import pytest

from handlers.certainty import certainty
from handlers.errors import RecipeError
from handlers.recipe import Uncertainty, parse
from tests.conftest import brightness_recipe


def section(dark: float, bright: float, cutoff: tuple[float, float] | None = None) -> Uncertainty:
    quantiles = {"dark": dark, "bright": bright}
    return Uncertainty(level=0.9, quantiles=quantiles, threshold_interval=cutoff, fitted="by hand", split="0" * 64)


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
    found = certainty(label, {"dark": dark, "bright": 1 - dark}, "bright", section(*quantiles))
    assert found.document == {"status": status, "prediction_set": list(labels), "level": 0.9}


@pytest.mark.parametrize(
    ("bright", "label", "status"),
    [
        (0.14, "dark", "certain"),
        (0.15, "dark", "uncertain"),
        (0.219, "dark", "uncertain"),  # just below the threshold of 0.22, where the set of dark alone ends
        (0.221, "bright", "uncertain"),
        (0.34, "bright", "uncertain"),
        (0.36, "bright", "certain"),
    ],
)
def test_a_result_within_the_interval_of_the_threshold_is_uncertain(bright: float, label: str, status: str) -> None:
    """A threshold is known only to within its interval, so neither label is excluded there."""
    probabilities = {"dark": 1 - bright, "bright": bright}
    assert certainty(label, probabilities, "bright", section(0.22, 0.78)).status == "certain"
    found = certainty(label, probabilities, "bright", section(0.22, 0.78, (0.15, 0.35)))
    assert found.status == status
    assert found.prediction_set == (("dark", "bright") if status == "uncertain" else (label,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uncertainty": section(0.1, 0.1).model_dump(), "decision": None}, "uncertainty needs task classification"),
        (
            {"uncertainty": section(0.1, 0.1).model_dump() | {"quantiles": {"dark": 0.1}}},
            r"uncertainty.quantiles has labels \['dark'\]",
        ),
        (
            {"uncertainty": section(0.1, 0.1, (0.61, 0.7)).model_dump()},
            r"uncertainty.threshold_interval has value \[0.61, 0.7\]; it must contain decision.threshold, 0.6",
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
