"""Decodes NumPy's .npy files without unpickling."""

import tokenize
import warnings
from io import BytesIO
from math import prod
from typing import Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers.errors import UnreadableImageError, UnusableImageError
from handlers.formats.image import Image, Limits
from handlers.formats.intensity import from_float, from_integer

_MAX_HEADER: Final = 4096
"""Longest header that is parsed, in characters; an image's has about a hundred."""

_SHAPES: Final = "(H, W), (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W)"
_TYPES: Final = "uint8 (0 to 255), uint16 (0 to 65535), bool, or floats in [0, 1]"


def recognises(data: bytes) -> bool:
    """Whether the first bytes are those of a .npy file."""
    return data.startswith(npy_format.MAGIC_PREFIX)


def decode(data: bytes, limits: Limits) -> Image:
    """Decode one array of shape (H, W), (H, W, 1), (H, W, 3), (1, H, W) or (3, H, W).

    Where a shape is ambiguous, the last axis is the colour.
    """
    shape, fortran, dtype, start = _header(data)
    height, width, axis = _geometry(shape)
    limits.claim(width, height)
    expected, actual = prod(shape) * dtype.itemsize, len(data) - start
    if expected != actual:
        raise UnreadableImageError(
            f"An array of shape {shape} and type {dtype} has {expected} bytes, the .npy file {actual}; save it again."
        )
    samples = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    if axis is not None:
        samples = np.moveaxis(samples, axis, -1)
        samples = samples[..., 0] if samples.shape[-1] == 1 else samples
    return Image(pixels=_pixels(samples), format="npy", width=width, height=height)


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Return shape, Fortran order, type and the position of the samples; allocates nothing for them."""
    stream = BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers written by Python 2
            version = npy_format.read_magic(stream)
            if version == (1, 0):
                header = npy_format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
            elif version == (2, 0):
                header = npy_format.read_array_header_2_0(stream, max_header_size=_MAX_HEADER)
            else:
                raise UnreadableImageError(f"The .npy file has version {version}; save it as version 1.0 or 2.0.")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise UnreadableImageError(
            "The .npy header is damaged or incomplete; save the array again with numpy.save."
        ) from error
    shape, fortran, dtype = header
    if dtype.hasobject or dtype.kind not in "buf":
        name = "object" if dtype.hasobject else "with fields" if dtype.names else dtype.name
        raise UnusableImageError(f"The array has type {name}; send {_TYPES}.")
    return shape, fortran, dtype, stream.tell()


def _geometry(shape: tuple[int, ...]) -> tuple[int, int, int | None]:
    """Return height, width and the axis of the channels."""
    match shape:
        case (height, width) if height > 0 and width > 0:
            return height, width, None
        case (height, width, 1 | 3) if height > 0 and width > 0:
            return height, width, 2
        case (1 | 3, height, width) if height > 0 and width > 0:
            return height, width, 0
    text = str(shape) if len(shape) <= 6 else f"of {len(shape)} axes"
    raise UnusableImageError(f"The array has shape {text}; send one image of shape {_SHAPES}.")


def _pixels(samples: NDArray[np.generic]) -> Pillow.Image:
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "b":
        samples, kind, bits = samples.astype(np.uint8) * np.uint8(255), "u", 8
    if kind == "f":
        return from_float(samples)
    if kind == "u" and bits <= 16:
        return from_integer(samples, bits)
    raise UnusableImageError(f"The array has type {samples.dtype.name}; send {_TYPES}.")
