"""Reads raw samples without a header, the format of the original CIFAR-10 client: `{"data": "<base64>"}`."""

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from handlers.errors import BadRequestError
from handlers.formats.image import Image
from handlers.recipe import Input


@dataclass(frozen=True)
class RawSamples:
    """8-bit samples, channel-first, in the shape of the recipe's input."""

    data: bytes


def decode(raw: RawSamples, spec: Input) -> Image:
    """Read raw samples as an image of exactly the input's shape."""
    if not spec.raw:
        raise BadRequestError(
            'This model accepts no raw samples ({"data": ...}), which carry no size. '
            'Send a file: {"image": "<base64 of the file>"}.'
        )
    shape = (spec.channels, spec.height, spec.width)
    size = spec.channels * spec.height * spec.width
    if len(raw.data) != size:
        raise BadRequestError(
            f"'data' has {len(raw.data)} bytes; this model needs {size}: "
            f"{spec.channels} channels of {spec.height} rows of {spec.width} samples."
        )
    samples = np.frombuffer(raw.data, dtype=np.uint8).reshape(shape)
    pixels = samples[0] if spec.channels == 1 else samples.transpose(1, 2, 0)
    return Image(Pillow.fromarray(np.ascontiguousarray(pixels)), "raw", spec.width, spec.height)
