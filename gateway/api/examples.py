"""Examples of responses in the OpenAPI document."""

from typing import Any, Final

from gateway.event_stream import encode

PREDICTION: Final[dict[str, Any]] = {
    "model": {
        "name": "chest-xray-cnn",
        "version": "1.0.0",
        "sha256": "d1bd4d4757faded8649c47ed3f62e923940cba28d162b31ba77aef11dad41fd6",
    },
    "label": "pneumonia",
    "probability": 0.98,
    "probabilities": {"normal": 0.02, "pneumonia": 0.98},
    "positive": True,
    "threshold": 0.49,
    "image": {
        "format": "png",
        "width": 280,
        "height": 196,
        "sha256": "e918d4f50443dedb57f066b13e605e2b5cd450a4b4cf2ca399813b84712b33a0",
    },
    "prevalence": 0.5,
    "certainty": {"status": "certain", "prediction_set": ["pneumonia"], "level": 0.9},
    "checked": ["age", "view"],
    "unchecked": ["species"],
    "domain": {"mode": "strict", "status": "normal", "score": 0.8, "percentile": 41.0},
    "id": "0190b6c4-7f3e-7a21-9d55-3b7f0c9d2e41",
    "time": "2026-03-01T12:30:00.000Z",
    "filename": "film.png",
    "history": "kept",
}
INFERENCE: Final[dict[str, Any]] = {
    "model_name": "chest-xray-cnn",
    "model_version": "1.0.0",
    "id": "42",
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["pneumonia"]},
        {"name": "probability", "datatype": "FP64", "shape": [1], "data": [0.98]},
    ],
}
_REJECTION: Final = {"status": 422, "title": "Out of scope", "detail": "The age is above 5 years.", "filename": "b.png"}
EVENTS: Final = "".join(
    encode(event, data)
    for event, data in (
        ("accepted", {"total": 2, "request_id": "5d1f"}),
        ("prediction", {"index": 0, "name": "film.png", "result": PREDICTION, "history": "kept"}),
        ("progress", {"done": 1, "total": 2}),
        ("rejection", {"index": 1, "name": "b.png", "result": _REJECTION}),
        ("progress", {"done": 2, "total": 2}),
        ("done", {"total": 2, "predictions": 1, "rejections": 1}),
    )
)
