"""Where a classifier looked, as a value."""

from __future__ import annotations

from typing import Self

from pydantic import StrictBool, model_validator
from pydantic.dataclasses import dataclass

from radserve.schema.classification import Prediction
from radserve.schema.png import Picture
from radserve.schema.prediction import Text


@dataclass(frozen=True)
class Heat(Picture):
    """A map of relevance: 0 is none, 255 the most on this image.

    Attributes
    ----------
    method
        How it was computed.
    label
        The label whose relevance it is.
    empty
        Whether nothing on the image speaks for the label by this method; the map is 0 everywhere.
    """

    method: Text
    label: Text
    empty: StrictBool = False


@dataclass(frozen=True)
class Explanation:
    """A prediction, and the part of the image that speaks for its label; the map lies on the image pixel for pixel."""

    prediction: Prediction
    heat: Heat

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that the map is this prediction's."""
        self.heat.covers(self.prediction.image)
        if self.heat.label != self.prediction.label:
            raise ValueError(f"explanation.label is {self.heat.label!r}, but label is {self.prediction.label!r}")
        if self.heat.empty != (not self.heat.pixels.any()):
            raise ValueError(f"explanation.empty is {self.heat.empty}, which the map contradicts")
        return self
