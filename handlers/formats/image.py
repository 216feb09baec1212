"""A decoded image: pixels in memory and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image as PillowImage


@dataclass(frozen=True)
class Plane:
    """Where a slice lies in the patient (PS3.3 C.7.6.2); each part is None where the file does not tell.

    Attributes
    ----------
    series
        Identifier of the series that the slice belongs to; compared, never told.
    position
        Centre of the first pixel, (x, y, z) in mm.
    normal
        Unit vector that stands on the slice.
    between
        Distance to the neighbouring slices' centres, in mm.
    thickness
        Of the slice, in mm.
    """

    series: str | None = field(default=None, repr=False)
    position: tuple[float, float, float] | None = None
    normal: tuple[float, float, float] | None = None
    between: float | None = None
    thickness: float | None = None


@dataclass(frozen=True)
class Image:
    """One image, upright, ready to be brought to a model's geometry.

    Attributes
    ----------
    pixels
        Pillow image of mode `L` or `RGB` (8 bits), or `F` (deeper gray: floats in [0, 255], so that all
        modes share one scale). May be smaller than `width` x `height` where the decoder scaled down.
    format
        `jpeg`, `png`, `tiff`, `bmp`, `webp`, `npy`, `dicom` or `raw`.
    width, height
        Size of the image as sent, after orientation, in pixels.
    spacing
        (row, column) distance of pixel centres in mm at full size, where the file tells.
    plane
        Place in a volume, of a DICOM object.
    attributes
        DICOM keyword -> value, of those that say what was imaged (never who).
    """

    pixels: PillowImage.Image
    format: str
    width: int
    height: int
    spacing: tuple[float, float] | None = None
    plane: Plane | None = None
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
