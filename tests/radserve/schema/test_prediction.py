import hashlib
from typing import Any

import pytest

from radserve.client import validation
from radserve.errors import InvalidResponseError
from radserve.schema.prediction import Prediction
from radserve.schema.requested_image import RequestedImage
from tests.radserve.scripted import SHA256, prediction

IMAGE = b"image"
REQUEST = RequestedImage("chest", "1.0.0", hashlib.sha256(IMAGE).hexdigest())
MODEL = {"name": "chest", "version": "1.0.0", "sha256": SHA256}
CONTRADICTED = {
    "status": "uncertain",
    "prediction_set": ["normal", "pneumonia"],
    "level": 0.9,
    "second_label": "pneumonia",
}
PICTURE = {"format": "png", "width": 20, "height": 10, "sha256": REQUEST.sha256}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": MODEL | {"sha256": None}},
        {"positive": None, "threshold": None},
        {"label": "pneumonia", "probability": 0.25, "positive": True, "threshold": 0.2},
        {"label": "normal", "probabilities": {"normal": 0.75, "pneumonia": 0.2501}, "probability": 0.75},
        {"probabilities": {"normal": 1, "pneumonia": 0}, "probability": 1},
        {"warning": "Untrained: it knows nothing."},
        {"prevalence": 0.1},
        {"certainty": {"status": "certain", "prediction_set": ["normal"], "level": 0.9}},
        {"certainty": {"status": "uncertain", "prediction_set": ["pneumonia"], "level": 0.9}},
        {"certainty": {"status": "uncertain", "prediction_set": [], "level": 0.9}},
        {"certainty": {"status": "certain", "prediction_set": ["normal"], "level": 0.9, "second_label": "normal"}},
        {"certainty": CONTRADICTED},
        {"added_later": [1, 2]},
    ],
)
def test_a_consistent_document_is_valid(changes: dict[str, Any]) -> None:
    document = prediction(IMAGE, **changes)
    assert validation.result(document, REQUEST).raw == document


@pytest.mark.parametrize("key", list(prediction(IMAGE)))
def test_every_key_is_required(key: str) -> None:
    with pytest.raises(InvalidResponseError, match=f"key '{key}' is missing"):
        validation.result(prediction(IMAGE, **{key: ...}), REQUEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "label' has value None"),
        ({"label": ""}, "label' has value ''"),
        ({"label": "cat"}, "label 'cat' is not among"),
        ({"probability": "0.75"}, "probability' has value '0.75'"),
        ({"probability": True}, "probability' has value True"),
        ({"probability": 1.5}, "probability' has value 1.5"),
        ({"probability": 0.5}, "probability 0.5 differs from the probability of label 'normal'"),
        ({"probability": float("nan")}, "probability' has value nan"),
        ({"probabilities": {}}, "label 'normal' is not among"),
        ({"probabilities": {"normal": 0.75, "pneumonia": 0.75}}, "sum to 1.5000"),
        ({"probabilities": {"normal": 0.75, "pneumonia": -0.25}}, "pneumonia' has value -0.25"),
        ({"positive": 0}, "positive' has value 0"),
        ({"positive": None}, "positive is None while threshold is 0.5"),
        ({"threshold": None}, "positive is False while threshold is None"),
        ({"positive": True, "threshold": 0.9}, "positive is true, but probability 0.75 is below"),
        (
            {"certainty": {"status": "certain", "prediction_set": ["pneumonia"], "level": 0.9}},
            "certainty is certain, but the prediction set of 'normal' is \\['pneumonia'\\]",
        ),
        (
            {"certainty": {"status": "uncertain", "prediction_set": ["normal"], "level": 0.9}},
            "certainty is uncertain, but the prediction set",
        ),
        (
            {"certainty": {"status": "uncertain", "prediction_set": ["cat"], "level": 0.9}},
            "the prediction set \\['cat'\\] is not among",
        ),
        ({"certainty": CONTRADICTED | {"second_label": "cat"}}, "the second label is 'cat'"),
        (
            {"certainty": CONTRADICTED | {"status": "certain", "prediction_set": ["normal"]}},
            "the second label is 'pneumonia', but the prediction set is",
        ),
        ({"threshold": 0.2}, "positive is false, but no other"),
        ({"model": "chest"}, "model' has value 'chest'"),
        ({"model": MODEL | {"sha256": "A" * 64}}, "model.sha256"),
        ({"model": MODEL | {"name": "brain"}}, "from brain 1.0.0, but chest 1.0.0 was requested"),
        ({"model": MODEL | {"version": "2.0.0"}}, "from chest 2.0.0, but chest 1.0.0 was requested"),
        ({"image": PICTURE | {"width": 0}}, "image.width' has value 0"),
        ({"image": PICTURE | {"height": 10.0}}, "image.height' has value 10.0"),
        ({"image": PICTURE | {"sha256": "b" * 64}}, "but that of the sent image is"),
        ({"status": 400}, "problem details"),
        ({"warning": ""}, "warning' has value ''"),
        ({"warning": False}, "warning' has value False"),
        (
            {"label": "pneumonia", "probability": 0.25, "positive": None, "threshold": None},
            "label is 'pneumonia', but 'normal' is more probable",
        ),
    ],
)
def test_an_error_names_key_and_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        validation.result(prediction(IMAGE, **changes), REQUEST)


def test_any_version_matches_a_request_without_version() -> None:
    assert validation.result(prediction(IMAGE), RequestedImage("chest", None, REQUEST.sha256)).model.version == "1.0.0"


def test_a_warning_is_an_attribute() -> None:
    assert validation.result(prediction(IMAGE), REQUEST).warning is None
    assert validation.result(prediction(IMAGE, warning="Untrained."), REQUEST).warning == "Untrained."


def test_a_model_may_have_ten_labels() -> None:
    shares = {f"label {number}": 0.1 for number in range(9)} | {"cat": 0.1}
    document = prediction(IMAGE, label="cat", probability=0.1, probabilities=shares, positive=None, threshold=None)
    result = validation.result(document, REQUEST)
    assert isinstance(result, Prediction)
    assert (result.task, result.positive, len(result.probabilities)) == ("classification", None, 10)
