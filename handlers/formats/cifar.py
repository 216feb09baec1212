"""Bare samples without any header: the wire format of the original CIFAR-10 client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from handlers.errors import BadRequestError
from handlers.formats.image import Image
from handlers.recipe import Input


@dataclass(frozen=True)
class Raw:
    """Samples as they were sent: bytes, channel-first; the recipe's input says of which shape."""

    data: bytes


def decode(raw: Raw, spec: Input) -> Image:
    """Read the samples as an image of exactly the input's shape.

    Raises
    ------
    BadRequest
        If the recipe takes no such samples, or their number is another.
    """
    if not spec.raw:
        raise BadRequestError(
            'This model takes no raw samples ({"data": ...}): a file says its size, they do not. '
            'Send {"image": "<base64 of a file>"}.'
        )
    shape = (spec.channels, spec.height, spec.width)
    if len(raw.data) != spec.channels * spec.height * spec.width:
        raise BadRequestError(
            f"'data' holds {len(raw.data)} bytes; {spec.channels * spec.height * spec.width} are needed: "
            f"{spec.channels} channels of {spec.height} rows of {spec.width} samples."
        )
    samples = np.frombuffer(raw.data, dtype=np.uint8).reshape(shape)
    pixels = samples[0] if spec.channels == 1 else samples.transpose(1, 2, 0)
    return Image(Pillow.fromarray(np.ascontiguousarray(pixels)), "raw", spec.width, spec.height)
