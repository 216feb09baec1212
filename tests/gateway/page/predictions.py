"""Predictions of scripted models."""

import base64
from typing import Any

from tests.gateway.fake_backend import prediction
from tests.gateway.page.scripted import IMAGE

UNSURE = {"certainty": {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}}
UNLIKE = {"domain": {"mode": "warn", "status": "unlike", "percentile": 99.9, "reason": "other_image"}}


def document(share: float) -> dict[str, Any]:
    """Return a prediction with a probability of pneumonia."""
    positive = share >= 0.5
    probabilities = {"normal": 1 - share, "pneumonia": share}
    label = "pneumonia" if positive else "normal"
    return prediction(
        IMAGE, label=label, positive=positive, probability=probabilities[label], probabilities=probabilities
    )


def outline(fraction: float, **changes: Any) -> dict[str, Any]:
    """Return a prediction with a mask of a share of the image."""
    absent = {"probability": ..., "probabilities": ...}
    mask = {"encoding": "png", "width": 20, "height": 10, "data": base64.b64encode(IMAGE).decode()}
    area = {"pixels": int(200 * fraction), "fraction": fraction}
    model = {"name": "slices", "version": "1.0.0", "sha256": None}
    return prediction(
        IMAGE, **absent, **{"label": "tumour", "positive": True, "mask": mask, "area": area, "model": model} | changes
    )
