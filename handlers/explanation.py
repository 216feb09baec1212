"""Explains a classifier's label by a heat map over the image, from gradients of the exported program."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import heat_map, png
from handlers.engine import Engine
from handlers.errors import InternalError
from handlers.geometry import Geometry
from handlers.pipeline import PreparedImage, model_error
from handlers.recipe import Explanation, Recipe


def explain(program: Engine, recipe: Recipe, prepared: PreparedImage, label: str) -> Pillow.Image:
    """Explain one label of one image, predicted or not, by a heat map of mode `L` in the geometry of the image as sent.

    255 is the most relevant point of the network's input, which may be outside of a padded image.

    Raises `InternalError` or `ServiceUnavailableError` if the model fails, and `ProgramError` if the program lacks the
    output that the recipe's method needs.
    """
    method = recipe.explanation or Explanation()
    relevance = _relevance(program, method, prepared.tensor[None], score(label, recipe)[None])
    geometry = Geometry.of(prepared.image.width, prepared.image.height, recipe.input)
    return heat_map.place(heat_map.normalise(relevance), geometry)


def document(recipe: Recipe, label: str, heat: Pillow.Image) -> dict[str, Any]:
    """Return the JSON of an explanation; `empty` is true where no pixel supports the label."""
    method = (recipe.explanation or Explanation()).method
    return {"method": method, "label": label, "empty": heat.getbbox() is None} | png.embedded(heat)


def _relevance(
    program: Engine, method: Explanation, batch: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    output = "features" if method.side is None else "attention"
    try:
        values, gradients = (rows[0] for rows in program.gradients(batch, weights, output))
    except (MemoryError, RuntimeError) as error:
        raise model_error(error) from None  # its note has the traceback
    if not (np.isfinite(values).all() and np.isfinite(gradients).all()):
        raise InternalError("The model returned invalid gradients for this image, so it has no explanation.")
    if method.side is None:
        return heat_map.grad_cam(values, gradients)
    return heat_map.spread(heat_map.attention_relevance(values, gradients), method.side)


def score(label: str, recipe: Recipe) -> NDArray[np.float32]:
    """Return the weights of the logits, shape (recipe.outputs,), whose sum is the score of a label.

    With softmax the score is the label's own logit, before the softmax, as both methods define it; other
    implementations of them can therefore check a map. (The difference of two labels' logits would ignore what raises
    both; on networks trained with cross entropy, which pushes two logits apart by equal amounts, the maps are nearly
    the same.) The one logit of a sigmoid supports the second label and contradicts the first.
    """
    index = recipe.labels.index(label)
    if recipe.activation == "sigmoid":
        return np.array([1 if index else -1], dtype=np.float32)
    weights = np.zeros(recipe.outputs, dtype=np.float32)
    weights[index] = 1
    return weights
