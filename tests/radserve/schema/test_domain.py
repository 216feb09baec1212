import hashlib
from typing import Any

import pytest

from radserve.client import validation
from radserve.errors import InvalidResponseError
from radserve.schema.domain import Domain, Repair
from radserve.schema.problem import ProblemDetails, RejectedImage
from radserve.schema.requested_image import RequestedImage
from tests.radserve.scripted import prediction

IMAGE = b"image"
UNUSUAL: dict[str, Any] = {"mode": "strict", "status": "unusual", "score": 1.2, "percentile": 98.4, "reason": None}


def read(requested: Repair | None = None, **changes: Any) -> Any:
    request = RequestedImage("chest", "1.0.0", hashlib.sha256(IMAGE).hexdigest(), requested)
    return validation.result(prediction(IMAGE, **changes), request)


@pytest.mark.parametrize(
    ("domain", "doubtful"),
    [
        (UNUSUAL, True),
        (UNUSUAL | {"status": "normal", "score": 0, "percentile": 0}, False),
        (UNUSUAL | {"mode": "warn", "status": "unlike", "percentile": 100, "reason": "rotated_90"}, True),
        (UNUSUAL | {"reason": "added_later"}, True),
        (UNUSUAL | {"reason": "inverted", "contradicts": "polarity"}, True),
        ({"mode": "off"}, False),
        (UNUSUAL | {"status": "unlike", "limit": 1.1, "near": True}, True),
    ],
)
def test_a_prediction_says_how_the_image_compares_with_the_training_images(
    domain: dict[str, Any], doubtful: bool
) -> None:
    result = read(domain=domain)
    assert result.domain == Domain(**domain)
    assert result.domain.is_doubtful is doubtful


def test_an_archive_without_detector_says_nothing() -> None:
    assert read().domain is None


@pytest.mark.parametrize(
    "domain",
    [
        {},
        {"mode": "strict"},
        {"mode": "lax"} | UNUSUAL | {"mode": "lax"},
        UNUSUAL | {"status": "fine"},
        UNUSUAL | {"score": -1},
        UNUSUAL | {"percentile": 100.1},
        UNUSUAL | {"percentile": None},
        UNUSUAL | {"reason": ""},
        UNUSUAL | {"mode": "off"},
        {"mode": "off", "reason": "inverted"},
        UNUSUAL | {"near": True},
        UNUSUAL | {"limit": 1.1},
        UNUSUAL | {"status": "unlike", "limit": 1.3},
    ],
)
def test_an_inconsistent_comparison_is_invalid(domain: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponseError, match="domain"):
        read(domain=domain)


@pytest.mark.parametrize(("requested", "done"), [("rotate-90", None), (None, "invert"), ("invert", "rotate-180")])
def test_a_result_of_another_repair_than_requested_is_invalid(requested: Repair | None, done: Repair | None) -> None:
    assert read("invert", repair="invert").repair == "invert"
    with pytest.raises(InvalidResponseError, match=f"repair {done}, but repair {requested} was requested"):
        read(requested, repair=done)


def test_a_rejection_has_the_comparison() -> None:
    problem = {"status": 422, "title": "Unlike the training images", "detail": "Turn it.", "domain": UNUSUAL}
    assert ProblemDetails.model_validate(problem).domain == Domain(**UNUSUAL)
    assert RejectedImage.model_validate(problem).domain == Domain(**UNUSUAL)
