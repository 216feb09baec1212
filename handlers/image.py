"""A decoded image: pixels in memory and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image as PillowImage


@dataclass(frozen=True)
class Image:
    """One image, upright, ready to be brought to a model's geometry.

    Attributes
    ----------
    pixels
        Pillow image of mode `L` or `RGB` (8 bits), or `F` (deeper gray: floats in [0, 255], so that all
        modes share one scale). May be smaller than `width` x `height` where the decoder scaled down.
    format
        `jpeg`, `png`, `tiff`, `bmp`, `webp`, `npy` or `dicom`.
    width, height
        Size of the image as sent, after orientation, in pixels.
    spacing
        (row, column) distance of pixel centres in mm at full size, where the file tells.
    attributes
        DICOM keyword -> value, of those that say what was imaged (never who).
    """

    pixels: PillowImage.Image
    format: str
    width: int
    height: int
    spacing: tuple[float, float] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What a decoder may spend on one image.

    Attributes
    ----------
    bytes
        Longest encoded image.
    pixels
        Most pixels an image may announce; checked before anything is decoded. Radiographs have up to
        30 million; decoding takes 6 (8-bit gray) to 16 (16-bit, JPEG 2000, transparency) bytes for each.
    """

    bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
