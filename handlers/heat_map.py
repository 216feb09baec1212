"""Computes heat maps of the areas that support a label, from a network's values and their gradients.

The formulas use double precision, where finite single precision cannot overflow.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.colour_map import heat_colour
from handlers.errors import InternalError
from handlers.geometry import Geometry

_MAX_OPACITY: Final = 0.65
"""Opacity where relevance is highest, so that the image below stays visible."""


def grad_cam(features: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute Grad-CAM: features weighted by their mean gradient, positive values only.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
    (ICCV 2017), equations 1 and 2. Rows and columns of features without any gradient are cleared: the score does not
    depend on them (a pool drops the last row of an odd number), but the mean gradient of the others would mark
    them, and where zeros pad a convolution their features are large.

    Maps features and gradients, (channels, rows, columns), to (rows, columns).
    """
    weights = gradients.mean(axis=(1, 2), dtype=np.float64)
    seen = np.outer(gradients.any(axis=(0, 2)), gradients.any(axis=(0, 1)))
    return np.where(seen, np.maximum(np.tensordot(weights, features, axes=1), 0), 0)


def attention_relevance(attention: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the relevance of tokens: attention weighted by its gradient, positive values only, summed over queries.

    Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers" (ICCV 2021), equation 5. Their equation 6 adds the identity for the skip connection
    around the attention, which these networks lack. They also lack a class token, whose row alone would count, so
    the rows of all tokens count.

    Maps attention and gradients, (heads, queries, tokens), to (tokens,).
    """
    kept = np.maximum(attention.astype(np.float64) * gradients, 0)
    relevance: NDArray[np.float64] = kept.mean(axis=0).sum(axis=0)
    return relevance


def spread(relevance: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Give each pixel of a map (side, side) the relevance of its token.

    A token is a run of consecutive pixels, row after row (training.networks.brain_tumor.split_tokens).
    """
    length, rest = divmod(side * side, len(relevance))
    if rest:
        raise InternalError(
            f"The recipe's explanation.side has value {side}, but {side} x {side} pixels are not a multiple of the "
            f"model's {len(relevance)} tokens."
        )
    return np.repeat(relevance, length).reshape(side, side)


def normalise(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the maximum, unless that is zero."""
    top = relevance.max()
    return relevance / top if top > 0 else relevance


def place(relevance: NDArray[np.float64], geometry: Geometry) -> Pillow.Image:
    """Resize relevance in [0, 1] from the network's input to the image as sent: mode `L`, 0 outside of the input."""
    window = Pillow.fromarray(relevance.astype(np.float32)).resize(geometry.window, Pillow.Resampling.BILINEAR)
    values = geometry.back(np.asarray(window), outside=0.0)
    return Pillow.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))


def overlay(picture: Pillow.Image, heat: Pillow.Image) -> Pillow.Image:
    """Draw a heat map, of mode `L`, over an RGB picture of the same size, more transparent where less relevant."""
    coloured = heat.copy()
    coloured.putpalette(_palette())
    opacity = heat.point([round(_MAX_OPACITY * level) for level in range(256)])
    return Pillow.composite(coloured.convert("RGB"), picture, opacity)


def _palette() -> bytes:
    return bytes(part for level in range(256) for part in heat_colour(level / 255))
