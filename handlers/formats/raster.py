"""Decodes JPEG, PNG, TIFF, BMP and WebP with Pillow."""

import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Final

import numpy as np
from PIL import ExifTags, ImageChops, ImageOps, UnidentifiedImageError
from PIL import Image as Pillow

from handlers.errors import RequestError, UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats import codestream
from handlers.formats.image import Image, Limits
from handlers.formats.intensity import from_integer

_MAGIC: Final = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"BM": "bmp",
}
_ROTATED: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height (CIPA DC-008, section 4.6.5.1.6)."""

_PNG_DEPTH, _PNG_COLOR = 24, 25
"""Positions of the bit depth and of the colour type in a PNG, whose first chunk is IHDR (sections 5.6 and 11.2.1)."""
_GRAY, _RGB = 0, 2

# What Pillow's readers raise on damaged files. Half a million damaged copies raised OSError, SyntaxError, TypeError and
# ValueError; its code can raise the others: end of bytes, absent tags, rationals without denominator, large lengths.
# imagecodecs raises RuntimeError.
_FAULTS: Final = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def recognises(data: bytes) -> bool:
    """Whether the first bytes are those of a supported raster format."""
    return _format(data) is not None


def decode(data: bytes, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    """Decode one raster image; see `handlers.formats.decode.decode`."""
    name = _format(data)
    assert name is not None
    try:
        with warnings.catch_warnings():
            # Pillow's limit warns first and raises later; ours follows.
            warnings.simplefilter("ignore")
            return _decode(data, name, limits, at_least)
    except RequestError:
        raise
    except Pillow.DecompressionBombError as error:
        raise UnusableImageError(f"The image declares more pixels than the limit of {limits.pixels}.") from error
    except UnidentifiedImageError as error:
        if name == "jpeg":
            _check_depth(data)
        raise UnreadableImageError(
            f"The {name.upper()} image is damaged or of an unsupported kind; export it as PNG."
        ) from error
    except _FAULTS as error:
        # Pillow's message may quote the file: it stays in the traceback, which only the log shows.
        raise UnreadableImageError(f"The {name.upper()} image is damaged or incomplete; export it again.") from error


def _check_depth(data: bytes) -> None:
    """Reject a JPEG that Pillow does not open because of its depth."""
    with suppress(UnreadableImageError):
        precision = codestream.read(data).precision
        if precision != 8:
            raise UnsupportedMediaTypeError(
                f"JPEG of {precision} bits is supported in DICOM only; export the image as PNG of 16 bits."
            )


def _is_lossless(data: bytes) -> bool:
    """Whether a JPEG is lossless; Pillow opens some whose header `codestream` rejects."""
    with suppress(UnreadableImageError):
        return codestream.read(data).lossless
    return False


def _format(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def _decode(data: bytes, name: str, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    if name == "tiff":
        from handlers.formats import tiff

        layout = tiff.read_layout(data, limits)
        if layout.is_plain:
            upright = tiff.decode(data, layout)
            pixels = gray_if_gray(upright) if layout.extra else upright
            return Image(pixels=pixels, format=name, width=upright.width, height=upright.height)
    picture: Pillow.Image = Pillow.open(BytesIO(data), formats=[name.upper()])
    width, height = picture.size
    if name == "tiff":
        # The reader of TIFFs rotates the pixels; their number was claimed with the layout.
        if sorted((width, height)) != sorted((layout.width, layout.height)):
            raise UnreadableImageError("The TIFF image declares its size in an unusual way; export it again.")
    else:
        limits.claim(width, height)
    lossless = name == "jpeg" and _is_lossless(data)
    _check(picture, data, name, lossless=lossless)
    # The size of a TIFF is upright already, and its reader rotates the pixels.
    orientation = 1 if name == "tiff" else picture.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in _ROTATED:
        width, height = height, width
    if at_least is not None and name == "jpeg" and not lossless:  # libjpeg does not scale lossless ones
        picture.draft(None, at_least[::-1] if orientation in _ROTATED else at_least)
    picture.load()
    if name == "png" and "transparency" in picture.info:
        _fix_transparent_level(picture, data)
    if orientation != 1:
        picture = ImageOps.exif_transpose(picture)
    return Image(pixels=_plain(picture), format=name, width=width, height=height)


def _check(picture: Pillow.Image, data: bytes, name: str, *, lossless: bool) -> None:
    """Reject files that are not a single image, or whose decoding costs far more than their pixels."""
    if name == "jpeg":
        # Further pictures of a JPEG (CIPA DC-007) are previews and gain maps; the first one is the image.
        if codestream.has_too_many_scans(data):
            raise UnreadableImageError("The JPEG image has more scans than any real image; export it again.")
        codestream.check_length(picture.width * picture.height, data, lossless=lossless)
    elif getattr(picture, "is_animated", False):
        raise UnusableImageError(f"The {name.upper()} file has several frames; send each frame as a separate image.")
    elif name == "bmp" and picture.info.get("compression") in {1, 2}:
        raise UnsupportedMediaTypeError("Run-length coded BMP is not supported; export the image as PNG.")


def _fix_transparent_level(picture: Pillow.Image, data: bytes) -> None:
    """Scale the transparent level of a PNG as Pillow scales the samples (section 11.3.1.1)."""
    depth, color = data[_PNG_DEPTH], data[_PNG_COLOR]
    if color == _RGB and depth == 16:
        raise UnusableImageError(
            "PNG with 16-bit colours and a transparent one (tRNS) is not supported; export without it."
        )
    if color == _GRAY and picture.mode == "L":
        picture.info["transparency"] *= 255 // (2**depth - 1)


def _plain(picture: Pillow.Image) -> Pillow.Image:
    """Convert any of Pillow's modes to `L`, `RGB` or `F`; transparency is composed over black."""
    match picture.mode:
        case "L" | "RGB" if "transparency" not in picture.info:
            return picture
        case "1" if "transparency" not in picture.info:
            return picture.convert("L")
        case "I;16":
            samples = np.asarray(picture)
            if (level := picture.info.get("transparency")) is not None:
                samples = np.where(samples == level, np.uint16(0), samples)
            return from_integer(samples, bits=16)
        case "CMYK":
            return gray_if_gray(_undo_cmyk_inversion(picture).convert("RGB"))
        case "L" | "1" | "RGB" | "LA" | "La" | "PA" | "RGBA" | "RGBa" | "P":
            return _flatten(picture)
        case _:
            return picture.convert("RGB")


def _undo_cmyk_inversion(picture: Pillow.Image) -> Pillow.Image:
    """Undo Pillow's inversion of CMYK JPEGs without Adobe marker: only Adobe writes them inverted."""
    if picture.format == "JPEG" and "adobe" not in picture.info:
        return Pillow.merge("CMYK", [band.point(lambda ink: 255 - ink) for band in picture.split()])
    return picture


def _flatten(picture: Pillow.Image) -> Pillow.Image:
    """Resolve palette and transparency; an image that is gray everywhere becomes `L`."""
    if picture.mode == "P" and "transparency" not in picture.info:
        return gray_if_gray(picture.convert("RGB"))
    whole = picture if picture.mode in {"LA", "RGBA"} else picture.convert("RGBA")
    alpha = whole.getchannel("A")
    colors = whole.convert("L" if whole.mode == "LA" else "RGB")
    black = Pillow.new(colors.mode, colors.size)
    black.paste(colors, mask=alpha)
    return gray_if_gray(black)


def gray_if_gray(picture: Pillow.Image) -> Pillow.Image:
    """Convert an image whose channels are the same to `L`."""
    if picture.mode != "RGB":
        return picture
    red, green, blue = picture.split()
    same = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    return red if same else picture
