"""A decoded image, the limits of decoding one, and the budget of all images of a request."""

import time
from dataclasses import dataclass, field
from math import inf

from PIL import Image as PillowImage

from handlers.errors import ContentTooLargeError, OverdueError, UnusableImageError
from handlers.scope.statement import Statement


@dataclass(frozen=True)
class Origin:
    """What an image belongs to; only compared, never logged or sent, because it identifies a patient."""

    study: str | None = field(default=None, repr=False)
    frame_of_reference: str | None = field(default=None, repr=False)  # of the positions
    instance: str | None = field(default=None, repr=False)  # the image itself ...
    frame: int | None = None  # ... or one of its frames, from 1


@dataclass(frozen=True)
class Plane:
    """Position of a slice in the patient (PS3.3 C.7.6.2), in mm; unknown parts are None."""

    # only compared, never logged or sent: it may identify a patient
    series: str | None = field(default=None, repr=False)
    position: tuple[float, float, float] | None = None  # centre of the first pixel, (x, y, z)
    normal: tuple[float, float, float] | None = None  # unit vector perpendicular to the slice
    between: float | None = None  # distance to the centres of the neighbouring slices
    thickness: float | None = None
    origin: Origin = Origin()


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
    statements: tuple[Statement, ...] = field(default=(), repr=False)  # what the file states about its scope
    frame: int | None = None  # number in a file of several, from 1


@dataclass
class Budget:
    """What the images of one request may still cost together; the default is unlimited."""

    pixels: float = inf  # declared ones
    bytes: float = inf  # of encoded images, and of deflated data sets once more
    deadline: float = inf  # by `time.monotonic`

    def check_time(self) -> None:
        """Raise `OverdueError` after the deadline."""
        if time.monotonic() > self.deadline:
            raise OverdueError("This request takes too long; send fewer images in one request, or try again later.")

    def spend(self, pixels: int = 0, count: int = 0) -> None:
        """Subtract the cost of an image before it is decoded; raises `ContentTooLargeError` if too little is left."""
        for unit, left, cost in (("pixels", self.pixels, pixels), ("bytes", self.bytes, count)):
            if cost > left:
                raise ContentTooLargeError(
                    f"The images of this request have too many {unit} together: this one has {cost}, only {left} are "
                    "left of the limit. Send fewer images in one request."
                )
        self.pixels -= pixels
        self.bytes -= count


@dataclass(frozen=True)
class Limits:
    """Limits of one image.

    The declared pixels are checked before anything is decoded. Radiographs have up to 30 million; decoding takes 4
    (8-bit gray) to 28 (WebP with transparency) bytes for each, as `python -m benchmarks.fuzz` measures.
    """

    bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
    budget: Budget = field(default_factory=Budget)  # of the image's request

    def claim(self, width: int, height: int) -> None:
        """Account for the pixels that an image declares; raises `RequestError` if they are too many."""
        if width * height > self.pixels:
            raise UnusableImageError(f"The image declares {width}x{height} pixels; the limit is {self.pixels}.")
        self.budget.spend(pixels=width * height)
