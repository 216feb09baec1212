"""The answer to a sample against the stored one."""

from __future__ import annotations

from typing import Any

import pytest

from radserve.torchserve.sample_check import difference

STORED = {"label": "b", "probabilities": {"a": 0.2, "b": 0.8}}


@pytest.mark.parametrize(
    ("answer", "stored", "said"),
    [
        ({"label": "b", "probability": 0.8, "probabilities": {"a": 0.2001, "b": 0.7999}}, STORED, None),
        ({"label": "a", "probabilities": {"a": 0.2, "b": 0.8}}, STORED, "label is a, and was b"),
        ({"label": "b", "probabilities": {"a": 0.3, "b": 0.7}}, STORED, "probability of a is 0.3000, and was 0.2000"),
        ({"label": "b"}, STORED, "probability of a is missing"),
        ({"label": "g", "area": {"fraction": 0.1}}, {"label": "g", "fraction": 0.1}, None),
        ({"label": "g", "area": {"fraction": 0.2}}, {"label": "g", "fraction": 0.1}, "fraction is 0.2000"),
    ],
)
def test_label_and_figures_have_to_be_the_stored_ones(
    answer: dict[str, Any], stored: dict[str, Any], said: str | None
) -> None:
    found = difference(answer, stored)
    assert (found is None) if said is None else (found is not None and said in found)
