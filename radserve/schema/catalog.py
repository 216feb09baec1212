"""Catalog documents: the models that a server offers, as described by their archives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from radserve.schema.types import Document, ModelName, Sha256, Version

Task = Literal["classification", "segmentation"]


class InputSize(Document):
    """Input of a network; sizes are in pixels."""

    color: Literal["gray", "rgb"]
    height: int
    width: int


class CatalogVersion(Document):
    """One version of a model.

    Attributes
    ----------
    share
        Percent of the requests that name no version.
    positive, threshold
        Label that a positive result has, and the cut-off of its probability; None if the model decides nothing.
    explains
        Whether /explanations is available.
    figures
        Scores on held-out images, from the archive's metrics; empty if none were measured.
    warning
        Part of every result: why it must not be relied on.
    """

    version: Version
    sha256: Sha256
    share: Annotated[float, Field(ge=0, le=100)]
    task: Task
    title: str
    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float | None = None
    explains: bool
    input: InputSize
    trained_on: str
    licence: str
    warning: str | None = None
    figures: dict[str, Any] = Field(default_factory=dict)


class CatalogModel(Document):
    """Model and its versions, the one with the largest share first."""

    name: ModelName
    versions: tuple[CatalogVersion, ...]


class Catalog(Document):
    """Models that a server offers."""

    models: tuple[CatalogModel, ...]

    def find(self, name: str, version: str | None = None) -> CatalogVersion | None:
        """Return a version, by default the one with the largest share; None if it is not served."""
        for model in self.models:
            if model.name == name:
                return next((item for item in model.versions if version in (None, item.version)), None)
        return None
