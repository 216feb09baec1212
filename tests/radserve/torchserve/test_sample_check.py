"""Tests of radserve.torchserve.sample_check."""

from __future__ import annotations

from typing import Any

import pytest

from radserve.torchserve.sample_check import difference

STORED = {"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}


@pytest.mark.parametrize(
    ("prediction", "expected", "message"),
    [
        ({"label": "b", "probability": 0.8, "probabilities": {"a": 0.2001, "b": 0.7999}}, STORED, None),
        ({"label": "a", "probabilities": {"a": 0.2, "b": 0.8}}, STORED, "label is a, expected b"),
        ({"label": "b", "probabilities": {"a": 0.3, "b": 0.7}}, STORED, "probability of a is 0.3000, expected 0.2000"),
        ({"label": "b"}, STORED, "probability of a is missing"),
        ({"label": "g", "area": {"fraction": 0.1}}, {"label": "g", "fraction": 0.1}, None),
        ({"label": "g", "area": {"fraction": 0.2}}, {"label": "g", "fraction": 0.1}, "fraction is 0.2000"),
    ],
)
def test_difference_compares_label_probabilities_and_fraction(
    prediction: dict[str, Any], expected: dict[str, Any], message: str | None
) -> None:
    text = difference(prediction, expected)
    assert text is None if message is None else message in str(text)
