"""Sample values of any depth to the one scale of `handlers.formats.image.Image`: [0, 255], gray or RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.errors import UnusableImageError


def from_integer(samples: NDArray[Any], bits: int) -> Pillow.Image:
    """Unsigned samples of `bits` bits, shape (height, width) or (height, width, 3); full scale is white."""
    top = 2**bits - 1
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > top:
        raise UnusableImageError(f"Sample values run from {low} to {high}; {bits}-bit samples are 0 to {top}.")
    if top == 255:
        return image(samples.astype(np.uint8, copy=False))
    values = samples.astype(np.float32)
    values *= np.float32(255 / top)
    return image(values)


def from_float(samples: NDArray[Any]) -> Pillow.Image:
    """Floats of shape (height, width) or (height, width, 3), in [0, 1] or, where any is above 1, in [0, 255]."""
    with np.errstate(over="ignore"):
        values = samples.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnusableImageError("Some sample values are not finite, or too large; replace NaN and infinity.")
    if low < 0 or high > 255:
        raise UnusableImageError(f"Float samples run from {low:g} to {high:g}; scale them to [0, 1].")
    if high <= 1:
        values *= np.float32(255)
    return image(values)


def image(values: NDArray[Any]) -> Pillow.Image:
    """Levels in [0, 255] as a Pillow image: bytes and gray floats as they are, colour rounded to bytes."""
    if values.ndim == 2 or values.dtype == np.uint8:
        return Pillow.fromarray(np.ascontiguousarray(values))
    return Pillow.fromarray(np.ascontiguousarray(np.rint(values).astype(np.uint8)))
