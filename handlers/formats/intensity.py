"""Scales samples of any depth to the range of `handlers.formats.image.Image`: [0, 255], gray or RGB."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.errors import UnusableImageError


def from_integer(samples: NDArray[Any], bits: int) -> Pillow.Image:
    """Scale unsigned integers of 1 to 16 bits, (height, width[, 3]), so that the maximum of their depth is white."""
    top = 2**bits - 1
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > top:
        raise UnusableImageError(f"Sample values range from {low} to {high}; with {bits} bits, 0 to {top} are valid.")
    if top == 255:
        return to_pillow(samples.astype(np.uint8, copy=False))
    scale = np.float32(255 / top)
    if samples.ndim == 2:
        return to_pillow(samples * scale)
    levels = np.empty(samples.shape, np.uint8)
    for channel in range(samples.shape[2]):  # one at a time, to save memory
        levels[..., channel] = np.rint(samples[..., channel] * scale)
    return to_pillow(levels)


def from_float(samples: NDArray[Any]) -> Pillow.Image:
    """Scale floats in [0, 1], (height, width[, 3]), or keep them where any is above 1: then the range is [0, 255]."""
    with np.errstate(over="ignore"):
        values = samples.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnusableImageError("Some samples are not finite; replace NaN and infinity.")
    if low < 0 or high > 255:
        raise UnusableImageError(f"Float samples range from {low:g} to {high:g}; scale them to [0, 1].")
    if high <= 1:
        values *= np.float32(255)
    return to_pillow(values)


def to_pillow(levels: NDArray[Any]) -> Pillow.Image:
    """Convert levels in [0, 255] to a Pillow image; deep colour is rounded in place, deep gray stays float."""
    if levels.ndim == 3 and levels.dtype != np.uint8:
        levels = np.rint(levels, out=levels).astype(np.uint8)
    return Pillow.fromarray(np.ascontiguousarray(levels))
