"""Images that can be read, and to which an answer would still mean nothing."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from PIL import Image as Pillow

from handlers.errors import UnusableImageError
from handlers.formats.image import Image
from handlers.recipe import Input

SMALLEST: Final = 32
"""Fewest pixels on a side."""

ELONGATED: Final = 5
"""Most times that one side is longer than the other; a whole-body scan has about 4."""

CONTRAST: Final = {"gray": 0.07, "rgb": 0.002}
"""Least distance of the 1st and 99th percentile, of full scale. Of 640 chest films none is below 0.33, of 600
brain slices none below 0.38; twelve bits left at the lower end of sixteen cannot reach 0.07. Of what is meant to
be coloured only a constant picture is refused: outer slices of a volume may be nearly empty."""

COLORED: Final = 0.06
"""Most distance of the channels, averaged over the image, of full scale. Chest films saved as RGB have 0, brain
slices at most 0.033 (a coloured letter less); of 600 CIFAR-10 photographs 82 % are above."""

_THUMBNAIL: Final = 48
_PLAIN: Final = re.compile(r"[A-Z0-9 _]{1,16}")


def check(image: Image, spec: Input) -> None:
    """Refuse an image that is none of what the model reads.

    Raises
    ------
    UnusableImage
        Naming what is wrong, its value and what to send.
    """
    _check_size(image)
    _check_attributes(image, spec)
    small = image.pixels.reduce(max(1, min(image.pixels.size) // _THUMBNAIL))
    if small.mode == "RGB":
        if spec.color == "gray":
            _check_color(small)
        small = small.convert("L")
    _check_contrast(small, CONTRAST[spec.color])


def _check_size(image: Image) -> None:
    short, long = sorted((image.width, image.height))
    if short < SMALLEST:
        raise UnusableImageError(
            f"The image has {image.width}x{image.height} pixels; at least {SMALLEST} on each side are needed."
        )
    if long > ELONGATED * short:
        raise UnusableImageError(
            f"The image has {image.width}x{image.height} pixels; one side may be {ELONGATED} times the other, no more."
        )


def _check_attributes(image: Image, spec: Input) -> None:
    for keyword, allowed in spec.dicom.items():
        value = image.attributes.get(keyword)
        if value is not None and value not in allowed:
            shown = repr(value) if _PLAIN.fullmatch(value) else "something else"
            raise UnusableImageError(
                f"The DICOM attribute {keyword} is {shown}; this model reads {', '.join(allowed)}."
            )


def _check_color(small: Pillow.Image) -> None:
    channels = np.asarray(small)
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    share = float(spread.mean()) / 255
    if share > COLORED:
        raise UnusableImageError(
            f"The image is coloured (its channels lie {share:.0%} of full scale apart); this model reads gray images."
        )


def _check_contrast(small: Pillow.Image, least: float) -> None:
    levels = np.asarray(small).ravel()
    low, high = levels.size // 100, levels.size - 1 - levels.size // 100
    ordered = np.partition(levels, (low, high))
    used = (float(ordered[high]) - float(ordered[low])) / 255
    if used < least:
        raise UnusableImageError(
            f"The image has no contrast: its gray levels use {used:.1%} of full scale. "
            f"If its depth is lower than its container's (12 bits in 16), scale it up."
        )
