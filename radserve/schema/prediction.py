"""What every answer of a server says, whatever the task; nothing that was not validated becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictStr, model_validator
from pydantic.dataclasses import dataclass

Text = Annotated[StrictStr, Field(min_length=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Pixels = Annotated[int, Field(strict=True, ge=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]
Length = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Model:
    """Which model answered; `sha256` is its archive's, None where the server has no index of its store."""

    name: Text
    version: Text
    sha256: Sha256 | None


@dataclass(frozen=True)
class Image:
    """The image as the server read it.

    Attributes
    ----------
    width, height
        Upright, in pixels.
    sha256
        Of the bytes that were sent.
    spacing
        (row, column) distance of pixel centres in mm, where the file tells.
    """

    format: Text
    width: Pixels
    height: Pixels
    sha256: Sha256
    spacing: tuple[Length, Length] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one image: what `Prediction` and `Segmentation` have in common.

    Attributes
    ----------
    positive
        Whether the model found what it looks for; None where it looks for no finding.
    threshold
        Probability (of the image, or of a pixel) from which on that is so; None with `positive`.
    warning
        Why the answer must not be relied on (an untrained model, say); show it wherever the label is shown.
    id, time
        Name of the answer in a gateway's history, and when it was given; None where no gateway was asked.
    raw
        The whole document, with what a newer server may have added.
    """

    model: Model
    label: Text
    positive: StrictBool | None
    threshold: Share | None
    image: Image
    warning: Text | None = None
    id: Text | None = field(default=None, compare=False)
    time: datetime | None = field(default=None, compare=False)
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @model_validator(mode="after")
    def _decided(self) -> Self:
        if (self.positive is None) != (self.threshold is None):
            raise ValueError(f"positive is {self.positive} while threshold is {self.threshold}")
        return self


@dataclass(frozen=True)
class RejectedImage:
    """Problem details (RFC 9457) in the place of an answer: there is no label in it."""

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
