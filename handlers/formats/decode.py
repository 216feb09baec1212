"""Decodes images by content; file names and declared media types are ignored."""

from collections.abc import Callable
from typing import Final

from handlers.dicom import reader
from handlers.dicom.multi_frame import Frame
from handlers.errors import (
    ContentTooLargeError,
    ServiceUnavailableError,
    UnreadableImageError,
    UnsupportedMediaTypeError,
)
from handlers.formats import npy, raster
from handlers.formats.image import Image, Limits

READABLE: Final = "JPEG, PNG, TIFF, BMP, WebP, NPY and DICOM"

_ZIP: Final = "A zip file cannot be one image of a list. Send it as the body of a request."
_UNSUPPORTED: Final = {
    b"\x1f\x8b": "gzip files cannot be read. Unpack the file, or send it with Content-Encoding: gzip.",
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": _ZIP,  # empty
    b"%PDF": "PDFs cannot be read. Export the image as PNG.",
    b"GIF8": "GIFs cannot be read. Export the image as PNG.",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000 cannot be read outside of DICOM. Export the image as PNG.",
    b"\xff\x4f\xff\x51": "JPEG 2000 cannot be read outside of DICOM. Export the image as PNG.",
    b"\x5c\x01\x00\x00": "NIfTI files cannot be read. Export each slice as PNG or DICOM.",
}
"""First bytes of unsupported types that clients do send -> message."""
_HEIF: Final = {
    b"ftyp" + brand
    for brand in (
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"msf1",
        b"avif",
        b"avis",
    )
}
"""Bytes 4 to 12 of photographs of telephones (ISO/IEC 23008-12)."""


def decode(data: bytes | Frame, limits: Limits | None = None, at_least: tuple[int, int] | None = None) -> Image:
    """Decode one image, or one frame of a DICOM object.

    A decoder that can scale down while it decodes may do so, but not below `at_least`, (width, height) in pixels.
    Raises nothing but `RequestError`, whatever the bytes are: `ServiceUnavailableError` when memory runs out, else an
    error of the image.
    """
    limits = limits or Limits()
    size = len(data.source.data if isinstance(data, Frame) else data)
    if size > limits.bytes:
        raise ContentTooLargeError(
            f"The image has {size} bytes; the limit is {limits.bytes}. Send it smaller or compressed."
        )
    if isinstance(data, Frame):
        return _guarded(lambda: reader.decode_frame(data, limits))
    if not data:
        raise UnreadableImageError("The image is empty; send the bytes of one image.")
    limits.budget.spend(count=len(data))
    return _guarded(lambda: _decode(data, limits, at_least))


def _guarded(function: Callable[[], Image]) -> Image:
    try:
        return function()
    except MemoryError as error:
        raise ServiceUnavailableError(
            "This worker has not enough memory to decode the image; try again later, or send a smaller image."
        ) from error


def _decode(data: bytes, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    # DICOM first: its preamble may be that of a TIFF file (PS3.10 section 7.1).
    if reader.recognises(data):
        return reader.decode(data, limits)
    if raster.recognises(data):
        return raster.decode(data, limits, at_least)
    if npy.recognises(data):
        return npy.decode(data, limits)
    for magic, message in _UNSUPPORTED.items():
        if data.startswith(magic):
            raise UnsupportedMediaTypeError(message)
    if data[4:12] in _HEIF:
        raise UnsupportedMediaTypeError("HEIC and AVIF photographs cannot be read. Export the image as PNG or JPEG.")
    raise UnsupportedMediaTypeError(f"Unsupported file type. Send the image as one of {READABLE}.")
