"""Preprocesses images to the network's input, identically in training, evaluation and serving."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.formats.image import Image
from handlers.geometry import Geometry
from handlers.recipe import Input

MARGIN: Final = 3
"""Smallest size to which a decoder may scale down, in multiples of the network's input: the antialiased resize then
gives the same prediction (tests/handlers/test_preprocess.py measures it on real films)."""

_FILTERS: Final = {"bilinear": Pillow.Resampling.BILINEAR, "bicubic": Pillow.Resampling.BICUBIC}


def at_least(spec: Input) -> tuple[int, int]:
    """Return the (width, height) below which no decoder may scale."""
    height, width = spec.frame or (spec.height, spec.width)
    return MARGIN * width, MARGIN * height


def resize(image: Image, spec: Input) -> NDArray[np.float32]:
    """Resize an image to the input's geometry, float32 (1 or 3, height, width) in [0, 1]; gray stays one channel."""
    pixels = image.pixels
    if spec.color == "gray" and pixels.mode == "RGB":
        pixels = pixels.convert("L")
    small = Geometry.of(image.width, image.height, spec).apply(pixels, _FILTERS[spec.resize])
    values = np.asarray(small, dtype=np.float32) / np.float32(255)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def normalise(values: NDArray[np.float32], spec: Input) -> NDArray[np.float32]:
    """Repeat gray (..., 1 or channels, height, width) to the input's channels and apply the recipe's statistics."""
    mean = np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(spec.std, dtype=np.float32)[:, None, None]
    return (values - mean) / std


def preprocess(image: Image, spec: Input) -> NDArray[np.float32]:
    """Convert an image to the network's input, float32 of shape (channels, height, width)."""
    return normalise(resize(image, spec), spec)
