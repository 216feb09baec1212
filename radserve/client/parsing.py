"""From a server's JSON to values: what is not the documented answer, or is about something else, raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from radserve.errors import InvalidResponseError
from radserve.schema.classification import Prediction
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import RejectedImage
from radserve.schema.segmentation import Segmentation, Series

T = TypeVar("T")

_PREDICTION: Final = TypeAdapter(Prediction)
_SEGMENTATION: Final = TypeAdapter(Segmentation)
_EXPLANATION: Final = TypeAdapter(Explanation)
_SERIES: Final = TypeAdapter(Series)
_REFUSAL: Final = TypeAdapter(RejectedImage)


@dataclass(frozen=True)
class RequestedImage:
    """What an answer must be about: the model, its version if one was named, and the sha256 of the image."""

    name: str
    version: str | None
    sha256: str


def parse(document: object, asked: RequestedImage) -> Prediction | Segmentation:
    """Take the answer to one image from a document.

    Raises
    ------
    NotAnAnswer
        If it is none, contradicts itself, or is about another model or image than was asked.
    """
    if not isinstance(document, dict):
        raise _wrong(f"the document is no object but {type(document).__name__}")
    if "status" in document:
        raise _wrong("the document is problem details")
    if "predictions" in document:
        raise _wrong("the document answers several images; a zip of them is for predict_series")
    if "mask" in document and "probabilities" in document:
        raise _wrong("the document has both a mask and probabilities")
    content = {**document, "raw": document}
    answer = _validate(_SEGMENTATION, content) if "mask" in document else _validate(_PREDICTION, content)
    return _about(answer, asked)


def _about(answer: Prediction | Segmentation, asked: RequestedImage) -> Prediction | Segmentation:
    model = answer.model
    if model.name != asked.name or asked.version not in (None, model.version):
        raise _wrong(f"model is {model.name} {model.version}, asked was {asked.name} {asked.version or ''}".rstrip())
    if answer.image.sha256 != asked.sha256:
        raise _wrong(f"image.sha256 is {answer.image.sha256}, but the image that was sent has {asked.sha256}")
    return answer


def parse_several(document: object, asked: list[RequestedImage]) -> list[Prediction | Segmentation | RejectedImage]:
    """Take the answers to several images from a document, in order.

    Raises
    ------
    NotAnAnswer
        See `parse`; also if there are more or fewer answers than images, or not all by the same model.
    """
    items = document.get("predictions") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise _wrong("the document has no list 'predictions'")
    if len(items) != len(asked):
        raise _wrong(f"predictions has {len(items)} entries for {len(asked)} images")
    answers = [_parse_one(item, wanted) for item, wanted in zip(items, asked, strict=True)]
    if len({answer.model for answer in answers if not isinstance(answer, RejectedImage)}) > 1:
        raise _wrong("several models answered one request")
    return answers


def _parse_one(document: object, asked: RequestedImage) -> Prediction | Segmentation | RejectedImage:
    if not isinstance(document, dict) or "status" not in document or "label" in document:
        return parse(document, asked)
    return _validate(_REFUSAL, document)


def parse_explanation(document: object, asked: RequestedImage) -> Explanation:
    """Take a prediction and its map of relevance from a document.

    Raises
    ------
    NotAnAnswer
        See `parse`; also if the map is missing, or is not this image's or label's.
    """
    prediction = parse(document, asked)
    heat = document.get("explanation") if isinstance(document, dict) else None
    if not isinstance(prediction, Prediction) or heat is None:
        raise _wrong("the document has no 'explanation' of a classifier's answer")
    return _validate(_EXPLANATION, {"prediction": prediction, "heat": heat})


def parse_series(document: object, asked: list[RequestedImage]) -> Series:
    """Take the answers to the slices of one examination from a document, and their volume.

    Raises
    ------
    NotAnAnswer
        See `parse_several`; also if the volume is missing, or is not that of the masks.
    """
    answers = parse_several(document, asked)
    volume = document.get("volume") if isinstance(document, dict) else None
    if volume is None:
        raise _wrong("the document has no 'volume'; only a segmentation model measures one")
    return _validate(_SERIES, {"answers": answers, "volume": volume})


def _validate(adapter: TypeAdapter[T], content: Any) -> T:
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise _wrong(_first(error)) from error


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, details["loc"]))
    reason = details["msg"].removeprefix("Value error, ")
    if not where:
        return reason
    if details["type"] == "missing":
        return f"{where} is missing"
    if details["type"] == "value_error":
        return f"{where}: {reason}"
    return f"{where} has value {repr(details['input'])[:100]}: {reason}"


def _wrong(reason: str) -> InvalidResponseError:
    return InvalidResponseError(f"The answer is not a prediction ({reason[:300]}). Nothing of it is used.")
