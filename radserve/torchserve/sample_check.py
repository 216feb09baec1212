"""Comparison of the prediction for an archive's sample with the one stored at build time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TOLERANCE: Final = 0.01
"""Largest accepted difference of a probability or fraction, as in `handlers.torchserve_handler`, which needs torch."""


def difference(prediction: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Describe the first difference between a prediction and the expected summary, or return None.

    Parameters
    ----------
    prediction
        Prediction document of a server.
    expected
        Summary in the archive (`TorchServeHandler.summary`): label, and probabilities or marked fraction.
    """
    values = _values(prediction)
    for name, target in _values(expected).items():
        value = values.get(name)
        same = value == target if isinstance(target, str) else _near(value, target)
        if not same:
            return f"{name} is {_text(value)}, expected {_text(target)} as at build time"
    return None


def _values(document: Mapping[str, Any]) -> dict[str, str | float]:
    values = {f"probability of {label}": value for label, value in document.get("probabilities", {}).items()}
    if "label" in document:
        values["label"] = document["label"]
    fraction = document.get("fraction", document.get("area", {}).get("fraction"))
    return values if fraction is None else values | {"fraction": fraction}


def _near(value: object, target: float) -> bool:
    return isinstance(value, int | float) and abs(value - target) <= TOLERANCE


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "missing" if value is None else str(value)
