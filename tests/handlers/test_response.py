"""Responses: what a picture says in its header fields."""

from typing import Any

import pytest

from handlers.response import Prediction, render


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        ({}, {}),
        ({"domain": {"mode": "off"}}, {"X-Domain": "off"}),
        (
            {"domain": {"mode": "strict", "status": "unusual"}, "repair": "rotate-90"},
            {"X-Domain": "strict; unusual", "X-Repair": "rotate-90"},
        ),
    ],
)
def test_a_picture_says_how_its_image_compares_and_its_repair(
    document: dict[str, Any], headers: dict[str, str]
) -> None:
    prediction = Prediction(document, {"": lambda: b"\x89PNG"})
    assert render(prediction, "image/png").headers == headers
    assert render(prediction, "application/json").headers == {}
