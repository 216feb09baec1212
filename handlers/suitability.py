"""Rejects images that are readable but unsuitable for the model: size, colour, contrast."""

from collections.abc import Sequence
from math import ceil
from typing import Final

import numpy as np
from PIL import Image as Pillow

from handlers.errors import UnusableImageError
from handlers.formats.image import Image
from handlers.recipe import Input

MIN_SIDE: Final = 32
"""Smallest number of pixels on a side."""

MAX_ASPECT: Final = 5
"""Largest ratio of the sides; a whole-body scan has about 4."""

MIN_CONTRAST: Final = {"gray": 0.07, "rgb": 0.002}
"""Smallest distance of the 1st and 99th percentile, as a fraction of full scale. 640 chest films have at least 0.33,
600 brain slices at least 0.38; twelve bits at the lower end of sixteen cannot reach 0.07. Of colour models only a
constant picture is rejected: outer slices of a volume may be nearly empty."""

MAX_COLOR: Final = 0.06
"""Largest mean distance of the channels of a gray image, as a fraction of full scale. Chest films saved as RGB have 0,
brain slices at most 0.033 (a coloured letter less); 82 % of 600 CIFAR-10 photographs are above."""

_THUMBNAIL: Final = 48


def check(image: Image, spec: Input, enlargement: float = 2) -> None:
    """Raise `UnusableImageError`, with problem, value and what to send, if an image is unsuitable for a model.

    `enlargement` is the most by which an image may be enlarged to the network's input.
    """
    _check_size(image, spec, enlargement)
    small = image.pixels.reduce(max(1, min(image.pixels.size) // _THUMBNAIL))
    if small.mode == "RGB":
        if spec.color == "gray":
            _check_color(small)
        small = small.convert("L")
    _check_contrast(small, MIN_CONTRAST[spec.color])


def notes(image: Image, sequences: Sequence[str] | None) -> tuple[str, ...]:
    """Return what a reader must know about the channels of an image, which are `sequences` for the model.

    The image is not rejected: of 85 patients with training images of `glioma-unet`, 6 have three equal channels, and 1
    has two, because a missing sequence was replaced by FLAIR.
    """
    if sequences is None:
        return ()
    equal = _equal(image.pixels, sequences)
    if len(equal) < 2:
        return ()
    article = "The " if len(equal) == len(sequences) else ""
    return (f"{article}{len(equal)} channels are equal: {', '.join(equal[:-1])} and {equal[-1]} cannot be told apart.",)


def _equal(pixels: Pillow.Image, sequences: Sequence[str]) -> list[str]:
    """Return the names of the channels that have an equal one, of which there is at most one group in three."""
    if pixels.mode != "RGB":
        return list(sequences)
    channels = [channel.tobytes() for channel in pixels.split()]
    return [name for name, channel in zip(sequences, channels, strict=False) if channels.count(channel) > 1]


def _check_size(image: Image, spec: Input, enlargement: float) -> None:
    short, long = sorted((image.width, image.height))
    width, height = (max(MIN_SIDE, ceil(side / enlargement)) for side in (spec.width, spec.height))
    enough = (image.width >= width, image.height >= height)
    # A padded image keeps its proportions: one of its sides fills the input.
    padded = spec.fit == "pad"
    if short < MIN_SIDE or not (any(enough) if padded else all(enough)):
        least = f"a width of {width} or a height of {height} pixels" if padded else f"{width}x{height}"
        other = f"and {MIN_SIDE} on the other side" if padded else "(width x height)"
        raise UnusableImageError(
            f"The image has {image.width}x{image.height} pixels; this model needs at least {least} {other}. "
            "Send the image in its original size."
        )
    if long > MAX_ASPECT * short:
        raise UnusableImageError(
            f"The image has {image.width}x{image.height} pixels; one side may be at most {MAX_ASPECT} times the other."
        )


def _check_color(small: Pillow.Image) -> None:
    channels = np.asarray(small)
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    share = float(spread.mean()) / 255
    if share > MAX_COLOR:
        raise UnusableImageError(
            f"This is a colour image (its channels differ by {share:.0%} of full scale); "
            "this model needs a grayscale image."
        )


def _check_contrast(small: Pillow.Image, minimum: float) -> None:
    levels = np.asarray(small).ravel()
    low, high = levels.size // 100, levels.size - 1 - levels.size // 100
    ordered = np.partition(levels, (low, high))
    used = (float(ordered[high]) - float(ordered[low])) / 255
    if used < minimum:
        raise UnusableImageError(
            f"The image has no contrast: its gray levels span {used:.1%} of full scale. "
            "If it has fewer bits than its file format (12 of 16), scale it up."
        )
