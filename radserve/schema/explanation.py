"""Explanation documents: a classification with a heat map of what influenced it."""

from typing import Self

from pydantic import StrictBool, model_validator

from radserve.schema import html
from radserve.schema.png import GrayPng, Scanlines
from radserve.schema.prediction import Prediction
from radserve.schema.types import Text


class HeatMap(GrayPng):
    """Relevance of each pixel for `label`, from 0 to 255 (the highest of this image), computed by `method`.

    `empty` maps are 0 everywhere: no pixel is relevant.
    """

    method: Text
    label: Text
    empty: StrictBool = False

    def _check_content(self, scanlines: Scanlines) -> None:
        # All pixels are 0 exactly if all filtered bytes are: every filter predicts 0 from zeros.
        if self.empty == any(any(row) for _, row in scanlines.rows()):
            raise ValueError(f"explanation.empty is {self.empty}, but the map contradicts it")


class Explanation(Prediction):
    """Classification and the heat map that explains its label; the map has the size of the image."""

    explanation: HeatMap

    @property
    def heat(self) -> HeatMap:
        """Heat map."""
        return self.explanation

    @property
    def prediction(self) -> Prediction:
        """Classification without the heat map."""
        return Prediction.model_validate({**self.raw} if self.raw else self.model_dump()).showing(self._origin)

    @property
    def _overlay(self) -> GrayPng:
        return self.heat

    def _colored(self) -> bytes:
        return html.heat_overlay(self.heat.width, self.heat.height, self.heat.gray)

    @model_validator(mode="after")
    def _check_map(self) -> Self:
        if self.explanation.label != self.label:
            raise ValueError(f"explanation.label is {self.explanation.label!r}, but label is {self.label!r}")
        return self
