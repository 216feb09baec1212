"""A decoded image, and the limits of decoding one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image as PillowImage


@dataclass(frozen=True)
class Plane:
    """Position of a slice in the patient (PS3.3 C.7.6.2), in mm; unknown parts are None."""

    # only compared, never logged or sent: it may identify a patient
    series: str | None = field(default=None, repr=False)
    position: tuple[float, float, float] | None = None  # centre of the first pixel, (x, y, z)
    normal: tuple[float, float, float] | None = None  # unit vector perpendicular to the slice
    between: float | None = None  # distance to the centres of the neighbouring slices
    thickness: float | None = None


@dataclass(frozen=True)
class Image:
    """One upright image. Its size is that of the image as sent, in pixels, after orientation.

    `pixels` has mode `L` or `RGB` (8 bits), or `F` (deeper gray: floats in [0, 255], the same scale). It is smaller
    than `width` x `height` where the decoder scaled down.
    """

    pixels: PillowImage.Image
    format: str  # `jpeg`, `png`, `tiff`, `bmp`, `webp`, `npy`, `dicom` or `raw`
    width: int
    height: int
    spacing: tuple[float, float] | None = None  # (row, column) distance of pixel centres in mm at full size
    plane: Plane | None = None
    # DICOM keyword -> value, of what was imaged, never of whom
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Limits of one image.

    The declared pixels are checked before anything is decoded. Radiographs have up to 30 million; decoding takes 6
    (8-bit gray) to 16 (16-bit, JPEG 2000, transparency) bytes for each.
    """

    bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
