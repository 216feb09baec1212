"""What a server says of one image, as values; nothing that was not validated becomes one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Final, Self

from pydantic import Field, StrictBool, StrictStr, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from radserve.errors import NotAnAnswer

_ROUNDING: Final = 1e-6
_SUM_TOLERANCE: Final = 0.01
"""How far the probabilities may sum from 1: rounded to two digits by somebody, not of another kind."""

_Text = Annotated[StrictStr, Field(min_length=1)]
_Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
_Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
_Pixels = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True)
class Model:
    """Which model answered; `sha256` is its archive's, None where the server has no index of its store."""

    name: _Text
    version: _Text
    sha256: _Sha256 | None


@dataclass(frozen=True)
class Image:
    """The image as the server read it; `sha256` is that of the bytes that were sent."""

    format: _Text
    width: _Pixels
    height: _Pixels
    sha256: _Sha256


@dataclass(frozen=True)
class Prediction:
    """The answer to one image.

    Attributes
    ----------
    probability
        That of `label`.
    probabilities
        Label -> calibrated probability.
    positive
        Whether the finding that the model looks for reaches its threshold; None where the model looks for none.
    threshold
        Probability of the finding from which on `positive` is true; None with `positive`.
    raw
        The whole document, with what a newer server may have added.
    """

    model: Model
    label: _Text
    probability: _Share
    probabilities: Mapping[_Text, _Share]
    positive: StrictBool | None
    threshold: _Share | None
    image: Image
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that no part of the answer contradicts another."""
        if self.label not in self.probabilities:
            raise ValueError(f"label {self.label!r} is not among the probabilities {sorted(self.probabilities)}")
        if not math.isclose(self.probability, self.probabilities[self.label], abs_tol=_ROUNDING):
            raise ValueError(f"probability {self.probability} is not that of label {self.label!r}")
        total = math.fsum(self.probabilities.values())
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"the probabilities sum to {total:.4f}, not 1")
        if (self.positive is None) != (self.threshold is None):
            raise ValueError(f"positive is {self.positive} while threshold is {self.threshold}")
        if self.threshold is not None and self.positive is not None:
            self._decided(self.positive, self.threshold)
        return self

    def _decided(self, positive: bool, threshold: float) -> None:  # noqa: FBT001  # a value, not a switch
        others = (share for label, share in self.probabilities.items() if label != self.label)
        finding = self.probability if positive else min(others, default=0.0)
        if positive and finding < threshold - _ROUNDING:
            raise ValueError(f"positive is true, but probability {finding} is below threshold {threshold}")
        if not positive and finding > threshold + _ROUNDING:
            raise ValueError(f"positive is false, but no other label's probability is below threshold {threshold}")


@dataclass(frozen=True)
class Refusal:
    """Problem details (RFC 9457) in the place of an answer: there is no label in it."""

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: _Text
    detail: _Text


@dataclass(frozen=True)
class Readiness:
    """What the supervisor says of itself; false in a condition unless it is `ready`."""

    ready: bool
    state: str
    detail: str

    def __bool__(self) -> bool:
        return self.ready


@dataclass(frozen=True)
class Asked:
    """What an answer must be about: the model, its version if one was named, and the sha256 of the image."""

    name: str
    version: str | None
    sha256: str


_PREDICTION: Final[TypeAdapter[Prediction]] = TypeAdapter(Prediction)
_REFUSAL: Final[TypeAdapter[Refusal]] = TypeAdapter(Refusal)


def parse(document: object, asked: Asked) -> Prediction:
    """Take a prediction from a document.

    Raises
    ------
    NotAnAnswer
        If it is none, contradicts itself, or is about another model or image than was asked.
    """
    if not isinstance(document, dict):
        raise _wrong(f"the document is no object but {type(document).__name__}")
    if "status" in document:
        raise _wrong("the document is problem details")
    try:
        prediction = _PREDICTION.validate_python({**document, "raw": document})
    except ValidationError as error:
        raise _wrong(_first(error)) from error
    model = prediction.model
    if model.name != asked.name or asked.version not in (None, model.version):
        raise _wrong(f"model is {model.name} {model.version}, asked was {asked.name} {asked.version or ''}".rstrip())
    if prediction.image.sha256 != asked.sha256:
        raise _wrong(f"image.sha256 is {prediction.image.sha256}, but the image that was sent has {asked.sha256}")
    return prediction


def parse_several(document: object, asked: list[Asked]) -> list[Prediction | Refusal]:
    """Take the answers to `instances` from a document, in order.

    Raises
    ------
    NotAnAnswer
        See `parse`; also if there are more or fewer answers than images.
    """
    items = document.get("predictions") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise _wrong("the document has no list 'predictions'")
    if len(items) != len(asked):
        raise _wrong(f"predictions has {len(items)} entries for {len(asked)} images")
    return [_parse_one(item, wanted) for item, wanted in zip(items, asked, strict=True)]


def _parse_one(document: object, asked: Asked) -> Prediction | Refusal:
    if not isinstance(document, dict) or "status" not in document or "label" in document:
        return parse(document, asked)
    try:
        return _REFUSAL.validate_python(document)
    except ValidationError as error:
        raise _wrong(_first(error)) from error


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, details["loc"]))
    reason = details["msg"].removeprefix("Value error, ")
    if not where:
        return reason
    return (
        f"{where} is missing" if details["type"] == "missing" else f"{where} has value {details['input']!r}: {reason}"
    )


def _wrong(reason: str) -> NotAnAnswer:
    return NotAnAnswer(f"The answer is not a prediction ({reason[:300]}). Nothing of it is used.")
