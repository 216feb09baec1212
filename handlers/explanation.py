"""Why a classifier gave its label: a heat map over the image, from gradients of the exported program."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import heat_map
from handlers.errors import InternalError
from handlers.geometry import Geometry
from handlers.pipeline import Prepared, blame
from handlers.png import png
from handlers.program import Program
from handlers.recipe import Explanation as Method
from handlers.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """Which places of one image spoke for a label.

    Attributes
    ----------
    method
        As in the recipe.
    label
        The label that is explained.
    heat
        Pillow image of mode `L` in the geometry of the image as sent. 255 is the most relevant place of
        the network's input; it may lie outside of the image where that is padded.
    """

    method: str
    label: str
    heat: Pillow.Image

    def document(self) -> dict[str, Any]:
        """Describe it as clients see it; `empty` where no pixel of the image spoke for the label."""
        return {
            "method": self.method,
            "label": self.label,
            "empty": self.heat.getbbox() is None,
            "encoding": "png",
            "width": self.heat.width,
            "height": self.heat.height,
            "data": base64.b64encode(png(self.heat)).decode(),
        }


def explain(program: Program, recipe: Recipe, prepared: Prepared, label: str) -> Explanation:
    """Explain one label of one image, whether or not it is the answer.

    Raises
    ------
    InternalError
        If the model fails, gives nothing finite, or no map that fits the recipe.
    ServiceUnavailable
        If memory is short.
    ProgramError
        If it gives no output of the kind that the recipe's method needs.
    DeviceLost
        See `Program.run`.
    """
    how = recipe.explanation or Method()
    relevance = _relevance(program, how, prepared.tensor[None], score(label, recipe)[None])
    geometry = Geometry.of(prepared.image.width, prepared.image.height, recipe.input)
    return Explanation(how.method, label, heat_map.place(heat_map.normalise(relevance), geometry))


def _relevance(
    program: Program, how: Method, batch: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    output = "features" if how.side is None else "attention"
    try:
        values, gradients = (rows[0] for rows in program.gradients(batch, weights, output))
    except (MemoryError, RuntimeError) as error:
        logger.exception("running the model for an explanation failed")
        raise blame(error) from error
    if not (np.isfinite(values).all() and np.isfinite(gradients).all()):
        raise InternalError("The model gave no finite gradients for this image; a map of them would mean nothing.")
    if how.side is None:
        return heat_map.grad_cam(values, gradients)
    return heat_map.spread(heat_map.attention_relevance(values, gradients), how.side)


def score(label: str, recipe: Recipe) -> NDArray[np.float32]:
    """Say which sum of the logits stands for a label.

    With softmax it is the label's own logit: the score before the softmax, as both methods define it, so
    that any implementation of them can check a map. (The difference of two labels' logits would leave
    out what raises both; on networks trained with cross entropy, which pushes the two logits apart by equal
    amounts, the maps are nearly the same.) A sigmoid's one logit speaks for the second label and against
    the first.

    Returns
    -------
    Shape (recipe.outputs,): the weight of each logit.
    """
    place = recipe.labels.index(label)
    if recipe.activation == "sigmoid":
        return np.array([1 if place else -1], dtype=np.float32)
    weights = np.zeros(recipe.outputs, dtype=np.float32)
    weights[place] = 1
    return weights
