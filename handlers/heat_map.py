"""Heat maps: which places of an image spoke for a label; pure functions from a network's values to pixels.

The formulas compute in double precision, where finite single precision cannot overflow.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.errors import InternalError
from handlers.geometry import Geometry

_COLOURS: Final = ((96, 0, 128), (232, 48, 40), (255, 232, 96))
"""From the least relevance to the most: each lighter than the one before, so that the order survives
colour blindness and a gray print; none of them gray, as films are."""
_COVER: Final = 0.65
"""Share of the colour where relevance is highest; what lies under it stays visible."""


def grad_cam(features: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weigh the features by their mean gradient and keep what speaks for the score.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
    (ICCV 2017), equations 1 and 2. A row or column of features without any gradient is cleared: the score
    does not depend on it (a pool drops the last row of an odd number), but the mean of the others' gradients
    would mark it all the same, and where zeros pad a convolution its features are large.

    Parameters
    ----------
    features, gradients
        Shape (channels, rows, columns); the gradients are those of the score by the features.

    Returns
    -------
    Shape (rows, columns), at least 0.
    """
    weights = gradients.mean(axis=(1, 2), dtype=np.float64)
    seen = np.outer(gradients.any(axis=(0, 2)), gradients.any(axis=(0, 1)))
    return np.where(seen, np.maximum(np.tensordot(weights, features, axes=1), 0), 0)


def attention_relevance(attention: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weigh attention by its gradient, keep what speaks for the score, and sum what each token gave to all.

    Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers" (ICCV 2021), equation 5. The identity that their equation 6 adds stands
    for the skip connection around the attention, which the networks here have not; nor have they a class
    token, whose row alone would count, so every token's row does.

    Parameters
    ----------
    attention, gradients
        Shape (heads, tokens, tokens): a row is how much a token takes of each other.

    Returns
    -------
    Shape (tokens,), at least 0.
    """
    kept = np.maximum(attention.astype(np.float64) * gradients, 0)
    relevance: NDArray[np.float64] = kept.mean(axis=0).sum(axis=0)
    return relevance


def spread(relevance: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Lay tokens out over the square map that they were cut from.

    A token is no square but a run of pixels that follow one another, row after row
    (training.networks.brain_tumor.runs); each pixel gets the relevance of its token.

    Parameters
    ----------
    relevance
        Shape (tokens,).
    side
        Of the map, in pixels.

    Returns
    -------
    Shape (side, side).

    Raises
    ------
    InternalError
        If the tokens cannot share the pixels evenly.
    """
    run, rest = divmod(side * side, len(relevance))
    if rest:
        raise InternalError(
            f"The recipe's explanation.side has value {side}, and {side} x {side} pixels cannot be shared evenly "
            f"by the model's {len(relevance)} tokens."
        )
    return np.repeat(relevance, run).reshape(side, side)


def normalise(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the maximum; what is zero everywhere stays so."""
    top = relevance.max()
    return relevance / top if top > 0 else relevance


def place(relevance: NDArray[np.float64], geometry: Geometry) -> Pillow.Image:
    """Bring relevance from a map of the network's input to the image as sent.

    Parameters
    ----------
    relevance
        Shape (rows, columns), in [0, 1], over the whole of the geometry's window.

    Returns
    -------
    Pillow image of mode `L`, of the image's width and height; 0 where the network saw nothing of it.
    """
    window = Pillow.fromarray(relevance.astype(np.float32)).resize(geometry.window, Pillow.Resampling.BILINEAR)
    values = geometry.back(np.asarray(window), outside=0.0)
    return Pillow.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))


def overlay(picture: Pillow.Image, heat: Pillow.Image) -> Pillow.Image:
    """Lay a heat map over a picture, the more transparent the less relevant.

    Parameters
    ----------
    picture
        Of mode `RGB`.
    heat
        Of mode `L` and the same size.

    Returns
    -------
    Pillow image of mode `RGB`.
    """
    coloured = heat.copy()
    coloured.putpalette(_palette())
    cover = heat.point([round(_COVER * level) for level in range(256)])
    return Pillow.composite(coloured.convert("RGB"), picture, cover)


def _palette() -> bytes:
    levels = np.linspace(0, len(_COLOURS) - 1, 256)
    channels = [np.interp(levels, range(len(_COLOURS)), channel) for channel in zip(*_COLOURS, strict=True)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()
