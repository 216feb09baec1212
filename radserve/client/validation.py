"""Validates response documents and checks that they belong to the request."""

from collections.abc import Sequence
from typing import Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from radserve.errors import InvalidResponseError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from radserve.schema.requested_image import RequestedImage
from radserve.schema.response import RESULT, ResultList, image_indices
from radserve.schema.segmentation import Segmentation, Series
from radserve.validation_error import describe

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_TAGS: Final = frozenset({"classification", "segmentation", "rejected"})
_MAX_REASON: Final = 300


def validate(model: type[M], document: object) -> M:
    """Validate a document; raises InvalidResponseError if it is malformed or inconsistent."""
    return _validate(TypeAdapter(model), document)


def result(document: object, request: RequestedImage) -> Prediction | Segmentation:
    """Validate the response to one image, its model and its image; raises InvalidResponseError."""
    if isinstance(document, dict) and "predictions" in document:
        raise _invalid(
            "it holds results of several images; use predict_frames for a multi-frame object, predict_series for a zip "
            "of slices"
        )
    return _matching(_validate(RESULT, document), request)


def explanation(document: object, request: RequestedImage) -> Explanation:
    """Validate the response of /explanations; raises as `result` does."""
    return _matching(_validate(TypeAdapter(Explanation), document), request)


def result_list(
    document: object, requests: Sequence[RequestedImage]
) -> list[Prediction | Segmentation | RejectedImage]:
    """Validate the response to several images, each with one result or one for each frame; raises as `result` does."""
    results = _validate(TypeAdapter(ResultList), document).predictions
    try:
        indices = image_indices(results)
    except ValueError as error:
        raise _invalid(str(error)) from error
    if len(set(indices)) != len(requests):
        raise _invalid(f"predictions has {len(results)} entries for {len(requests)} images")
    for item, index in zip(results, indices, strict=True):
        if not isinstance(item, RejectedImage):
            _matching(item, requests[index])
    return list(results)


def series(document: object, requests: Sequence[RequestedImage]) -> Series:
    """Validate the response to the slices of one examination; raises as `result` does."""
    results = result_list(document, requests)
    volume = document.get("volume") if isinstance(document, dict) else None
    if volume is None:
        raise _invalid("volume is missing; only segmentation models measure one")
    return validate(Series, {"predictions": results, "volume": volume})


R = TypeVar("R", Prediction, Segmentation, Explanation, Prediction | Segmentation)


def _matching(item: R, request: RequestedImage) -> R:
    try:
        request.require(item)
    except ValueError as error:
        raise _invalid(str(error)) from error
    return item


def _validate(adapter: TypeAdapter[T], document: object) -> T:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise _invalid(describe(error, omit=_TAGS)) from error


def _invalid(reason: str) -> InvalidResponseError:
    return InvalidResponseError(f"Invalid response: {reason[:_MAX_REASON]}. No part of it is used.")
