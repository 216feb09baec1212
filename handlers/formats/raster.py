"""Decodes JPEG, PNG, TIFF, BMP and WebP with Pillow."""

import struct
import warnings
import zlib
from io import BytesIO
from math import prod
from typing import Final

import numpy as np
from PIL import ExifTags, ImageChops, ImageOps, UnidentifiedImageError
from PIL import Image as Pillow
from PIL.TiffImagePlugin import TiffImageFile

from handlers.errors import RequestError, UnreadableImageError, UnsupportedMediaTypeError, UnusableImageError
from handlers.formats import codestream
from handlers.formats.image import Image, Limits
from handlers.formats.intensity import from_float, from_integer

_MAGIC: Final = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"BM": "bmp",
}
_PIXELS_PER_BYTE: Final = 8 * 64
"""Most pixels per byte of a Huffman-coded JPEG: a block of 8x8 takes at least a bit (ITU-T T.81, F.1.2 and G.1.2)."""

_ROTATED: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height (CIPA DC-008, section 4.6.5.1.6)."""

_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
_TILE: Final = (322, 323)
_MAX_TILE: Final = 1 << 20  # pixels of a tile in an image that is smaller than one
_WHITE_IS_ZERO, _SIGNED = 0, 2
"""TIFF 6.0, section 8 and page 80."""

# What Pillow's readers raise on damaged files. Half a million damaged copies raised OSError, SyntaxError, TypeError and
# ValueError; its code can raise the others: end of bytes, absent tags, rationals without denominator, large lengths.
_FAULTS: Final = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
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
        raise UnreadableImageError(
            f"The {name.upper()} image is damaged or of an unsupported kind; export it as PNG."
        ) from error
    except _FAULTS as error:
        # Pillow's message may quote the file: it stays in the traceback, which only the log shows.
        raise UnreadableImageError(f"The {name.upper()} image is damaged or incomplete; export it again.") from error


def _format(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def _decode(data: bytes, name: str, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    picture: Pillow.Image = Pillow.open(BytesIO(data), formats=[name.upper()])
    width, height = picture.size
    limits.claim(width, height)
    _check(picture, data, name)
    # The size of a TIFF is upright already, and its reader rotates the pixels.
    orientation = 1 if name == "tiff" else picture.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in _ROTATED:
        width, height = height, width
    if at_least is not None and name == "jpeg":
        picture.draft(None, at_least[::-1] if orientation in _ROTATED else at_least)
    picture.load()
    if orientation != 1:
        picture = ImageOps.exif_transpose(picture)
    return Image(pixels=_plain(picture), format=name, width=width, height=height)


def _check(picture: Pillow.Image, data: bytes, name: str) -> None:
    """Reject files that are not a single image, or whose decoding costs far more than their pixels."""
    if name == "jpeg":
        # Further pictures of a JPEG (CIPA DC-007) are previews and gain maps; the first one is the image.
        if "progressive" in picture.info and codestream.has_too_many_scans(data):
            raise UnreadableImageError("The JPEG image has more scans than any real image; export it again.")
        if picture.width * picture.height > _PIXELS_PER_BYTE * len(data):
            raise UnreadableImageError(f"The JPEG image declares more pixels than its {len(data)} bytes can hold.")
    elif getattr(picture, "is_animated", False):
        raise UnusableImageError(f"The {name.upper()} file has several frames; send each frame as a separate image.")
    elif name == "bmp" and picture.info.get("compression") in {1, 2}:
        raise UnsupportedMediaTypeError("Run-length coded BMP is not supported; export the image as PNG.")
    elif isinstance(picture, TiffImageFile):
        _check_tiff(picture)


def _check_tiff(picture: TiffImageFile) -> None:
    if _SIGNED in _tag(picture, _SAMPLE_FORMAT):
        raise UnusableImageError("The TIFF image has signed samples; send 8 or 16 unsigned bits, or floats in [0, 1].")
    # The decoder allocates a whole tile, which may be larger than the image.
    tile = prod(max(_tag(picture, side), default=0) for side in _TILE)
    if tile > max(picture.width * picture.height, _MAX_TILE):
        raise UnreadableImageError(f"The TIFF image has tiles of {tile} pixels, more than itself; export it as PNG.")


def _tag(picture: TiffImageFile, tag: int) -> tuple[int, ...]:
    value = picture.tag_v2.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _plain(picture: Pillow.Image) -> Pillow.Image:
    """Convert any of Pillow's modes to `L`, `RGB` or `F`; transparency is composed over black."""
    match picture.mode:
        case "L" | "RGB" if "transparency" not in picture.info:
            return picture
        case "1" if "transparency" not in picture.info:
            return picture.convert("L")
        case "I;16" | "I;16B" | "I;16L":
            return _black_is_zero(from_integer(np.asarray(picture), bits=_depth(picture)), picture)
        case "F":
            return _black_is_zero(from_float(np.asarray(picture)), picture)
        case "I":
            raise UnusableImageError("The image has 32-bit integer samples; send 8 or 16 bits.")
        case "CMYK":
            return _gray_if_gray(_undo_cmyk_inversion(picture).convert("RGB"))
        case "L" | "1" | "RGB" | "LA" | "La" | "PA" | "RGBA" | "RGBa" | "P":
            return _flatten(picture)
        case _:
            return picture.convert("RGB")


def _depth(picture: Pillow.Image) -> int:
    """Return the bits of a deep gray sample; Pillow keeps the 12 bits of a TIFF at the lower end of 16."""
    return min(_tag(picture, _BITS) or (16,)) if isinstance(picture, TiffImageFile) else 16


def _black_is_zero(gray: Pillow.Image, picture: Pillow.Image) -> Pillow.Image:
    """Invert WhiteIsZero, which Pillow does only for samples of 8 bits or fewer."""
    if isinstance(picture, TiffImageFile) and _tag(picture, _PHOTOMETRIC) == (_WHITE_IS_ZERO,):
        return Pillow.fromarray(np.float32(255) - np.asarray(gray))
    return gray


def _undo_cmyk_inversion(picture: Pillow.Image) -> Pillow.Image:
    """Undo Pillow's inversion of CMYK JPEGs without Adobe marker: only Adobe writes them inverted."""
    if picture.format == "JPEG" and "adobe" not in picture.info:
        return Pillow.merge("CMYK", [band.point(lambda ink: 255 - ink) for band in picture.split()])
    return picture


def _flatten(picture: Pillow.Image) -> Pillow.Image:
    """Resolve palette and transparency; an image that is gray everywhere becomes `L`."""
    if picture.mode == "P" and "transparency" not in picture.info:
        return _gray_if_gray(picture.convert("RGB"))
    whole = picture if picture.mode in {"LA", "RGBA"} else picture.convert("RGBA")
    alpha = whole.getchannel("A")
    colors = whole.convert("L" if whole.mode == "LA" else "RGB")
    black = Pillow.new(colors.mode, colors.size)
    black.paste(colors, mask=alpha)
    return _gray_if_gray(black)


def _gray_if_gray(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode == "L":
        return picture
    red, green, blue = picture.split()
    same = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    return red if same else picture
