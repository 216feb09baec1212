"""Catalog documents: the models that a server offers, as described by their archives."""

from typing import Annotated, Any, Literal

from pydantic import Field

from radserve.schema.domain import Mode
from radserve.schema.prediction import ProfileReference
from radserve.schema.types import Count, Document, Fraction, ModelName, Sha256, Text, Version

Task = Literal["classification", "segmentation"]


class InputSize(Document):
    """Input of a network; sizes are in pixels."""

    color: Literal["gray", "rgb"]
    height: int
    width: int


class Display(Document):
    """How people see a model: its name, the heading for it, and in words what it is for and what not.

    `finding` is what a positive result shows. `photographs` says whether pictures of a camera are what it is for.
    """

    name: Text
    group: Text
    purpose: Text
    scope: Text
    not_for: Text
    finding: Text | None = None
    photographs: bool = False


class HeldOut(Document):
    """Number of the images from which the scores are, and of those with each label."""

    images: Count
    labels: dict[str, Count]


class Refusals(Document):
    """Number of the held-out images that were compared with the training images, and of those that were `refused`."""

    images: Count
    refused: Count


class CatalogVersion(Document):
    """One version of a model; `share` is the percentage of the requests that name no version.

    A positive result has the label `positive`, and at least the probability `threshold`; both are None if the model
    decides nothing. The probabilities assume that the share `prevalence` of the images is positive. `profile` is the
    site profile from which calibration and threshold are, if there is one. `scope` names the attributes that are
    checked. `figures` are scores on the held-out images that `held_out` counts, from the archive's metrics. `warning`
    says why results must not be relied on. `domain` says what happens to images unlike the training images, None
    without a detector; `refusals` counts the good images that it refused, None if that was not measured. From a
    probability of `uncertain` on the left up to below the one on the right, at the prevalence of this entry, a result
    is uncertain; None if none is. `ready` says whether the version has a
    worker and did not fail its last check, None if the server does not say.
    """

    version: Version
    sha256: Sha256
    share: Annotated[float, Field(ge=0, le=100)]
    task: Task
    title: str
    display: Display | None = None
    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float | None = None
    prevalence: float | None = None
    profile: ProfileReference | None = None
    explains: bool
    input: InputSize
    scope: tuple[str, ...] = ()
    domain: Mode | None = None
    trained_on: str
    licence: str
    warning: str | None = None
    uncertain: tuple[Fraction, Fraction] | None = None
    figures: dict[str, Any] = Field(default_factory=dict)
    held_out: HeldOut | None = None
    refusals: Refusals | None = None
    ready: bool | None = None


class CatalogModel(Document):
    """Model and its versions, the one with the largest share first."""

    name: ModelName
    versions: tuple[CatalogVersion, ...]


class Catalog(Document):
    """Models that a server offers."""

    models: tuple[CatalogModel, ...]
