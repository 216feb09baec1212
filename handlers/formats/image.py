"""A decoded image, and the limits of decoding one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image as PillowImage


@dataclass(frozen=True)
class Plane:
    """Position of a slice in the patient (PS3.3 C.7.6.2); unknown parts are None.

    Attributes
    ----------
    series
        Identifier of the series. Only compared, never logged or sent: it may identify a patient.
    position
        Centre of the first pixel, (x, y, z) in mm.
    normal
        Unit vector perpendicular to the slice.
    between
        Distance to the centres of the neighbouring slices, in mm.
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
    """One upright image.

    Attributes
    ----------
    pixels
        Pillow image of mode `L` or `RGB` (8 bits), or `F` (deeper gray: floats in [0, 255], the same scale).
        May be smaller than `width` x `height` where the decoder scaled down.
    format
        `jpeg`, `png`, `tiff`, `bmp`, `webp`, `npy`, `dicom` or `raw`.
    width, height
        Size of the image as sent, after orientation, in pixels.
    spacing
        (row, column) distance of pixel centres in mm at full size, where known.
    plane
        Position of a DICOM slice.
    attributes
        DICOM keyword -> value of the attributes that describe what was imaged, never whom.
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
    """Limits of one image.

    Attributes
    ----------
    bytes
        Of the encoded image.
    pixels
        That the image may declare; checked before anything is decoded. Radiographs have up to 30 million;
        decoding takes 6 (8-bit gray) to 16 (16-bit, JPEG 2000, transparency) bytes for each.
    """

    bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
