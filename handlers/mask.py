"""Turns the logits of all pixels into a mask in the geometry of the image as sent."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InternalError
from handlers.geometry import Geometry
from handlers.recipe import Recipe


@dataclass(frozen=True)
class Mask:
    """Area of the finding: `marked`, shape (height, width) of the upright image as sent."""

    marked: NDArray[np.bool_]

    @property
    def pixels(self) -> int:
        """Number of marked pixels."""
        return int(np.count_nonzero(self.marked))

    @property
    def fraction(self) -> float:
        """Marked fraction of the image, in [0, 1]."""
        return self.pixels / self.marked.size

    @property
    def box(self) -> dict[str, int] | None:
        """Bounding box in pixels; None where no pixel is marked."""
        rows, columns = (np.flatnonzero(self.marked.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return None
        top, left = int(rows[0]), int(columns[0])
        return {
            "left": left,
            "top": top,
            "width": int(columns[-1]) - left + 1,
            "height": int(rows[-1]) - top + 1,
        }

    @property
    def gray(self) -> NDArray[np.uint8]:
        """Gray picture of the mask: 255 where marked, else 0."""
        return self.marked.astype(np.uint8) * np.uint8(255)


def segment(logits: NDArray[np.float32], recipe: Recipe, geometry: Geometry) -> Mask:
    """Apply calibration, smallest size and threshold to every pixel's logit, shape (1, height, width).

    Probabilities are interpolated to the size of the image before the threshold applies. Pixels outside of the
    network's input are not marked.
    """
    spec, decision = recipe.input, recipe.decision
    assert decision is not None  # a recipe of this task has one
    if logits.shape != (1, spec.height, spec.width) or not np.isfinite(logits).all():
        raise InternalError("The model returned an invalid number for a pixel of this image, so it has no mask.")
    # The sigmoid as a hyperbolic tangent: the same function without overflow.
    probabilities = (1 + np.tanh(logits[0] / (2 * recipe.calibration.temperature))) / 2
    if np.count_nonzero(probabilities >= decision.threshold) < decision.smallest:
        return Mask(np.zeros((geometry.height, geometry.width), dtype=np.bool_))
    return Mask(geometry.back(probabilities.astype(np.float32), outside=0) >= decision.threshold)
