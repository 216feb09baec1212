"""What answers look like, for the API's description; the server behind makes them, so nothing is checked by these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(gt=0)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class Archive(_Document):
    """Which model answered; `sha256` is its archive's, null where the server has no index."""

    name: str
    version: str
    sha256: Sha256 | None


class Image(_Document):
    """The image as the server read it; `sha256` is of the bytes that were sent, `spacing` (row, column) in mm."""

    format: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    sha256: Sha256
    spacing: Annotated[list[Length], Field(min_length=2, max_length=2)] = Field(default_factory=list)


class Picture(_Document):
    """A gray PNG in Base64, in the geometry of the image."""

    encoding: Literal["png"]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    data: str


class Answer(_Document):
    """What all answers to an image say.

    `positive` and `threshold` are null where the model decides nothing; `warning` says why it must not be relied on.
    """

    id: Annotated[str, Field(description="Names the result; it is in /api/results if `history` is `kept`.")]
    time: AwareDatetime
    filename: Annotated[str, Field(description="As the client named it, where it did.")] = ""
    model: Archive
    warning: str = ""
    label: str
    positive: bool | None
    threshold: Share | None
    image: Image


class Classification(Answer):
    """The answer of a classifier; `probability` is that of `label`."""

    probability: Share
    probabilities: dict[str, Share]


class Map(Picture):
    """Where the classifier looked: 0 is what says nothing for the label, 255 what says most; `empty` if all is 0."""

    method: str
    label: str
    empty: bool


class Explanation(Classification):
    """The answer of a classifier, and where it looked."""

    explanation: Map


class Area(_Document):
    """How much is marked; `mm2` where the spacing is known."""

    pixels: Count
    fraction: Share
    mm2: Annotated[float, Field(ge=0)] = 0


class Box(_Document):
    """The smallest rectangle around a mask, in pixels of the image."""

    left: Count
    top: Count
    width: Count
    height: Count


class Segmentation(Answer):
    """The answer of a model that marks: what it marked, null as `box` where that is nothing."""

    area: Area
    box: Box | None
    mask: Picture


class Refusal(_Document):
    """In the place of the answer to an image that got none, among others that did."""

    status: Annotated[int, Field(ge=400, le=599)]
    title: str
    detail: str
    filename: str = ""


class Volume(_Document):
    """Of the marks of all slices, in millilitres, or the reason why there is none."""

    slices: Count
    positive_slices: Count
    pixels: Count
    ml: Annotated[float, Field(ge=0)] = 0
    reason: str = ""


class _Kept(BaseModel):
    history: Annotated[
        Literal["kept", "off", "unavailable"],
        Field(description="Whether the results were kept; `unavailable` where they should have been, and could not."),
    ]


class OneClassification(Classification, _Kept):
    """The answer of a classifier to one image."""


class OneExplanation(Explanation, _Kept):
    """The answer of a classifier to one image, and where it looked."""


class OneSegmentation(Segmentation, _Kept):
    """The answer of a model that marks to one image."""


class Predictions(_Document, _Kept):
    """The answers to several images, in their order."""

    predictions: list[Classification | Segmentation | Refusal]
    volume: Volume = Field(default_factory=lambda: Volume(slices=0, positive_slices=0, pixels=0))


class Explanations(_Document, _Kept):
    """The answers to several images, in their order."""

    predictions: list[Explanation | Refusal]
