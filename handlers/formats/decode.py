"""Bytes to an image, by content: the name and the announced type of a file prove nothing."""

from __future__ import annotations

from typing import Final

from handlers.dicom import reader
from handlers.errors import (
    ContentTooLargeError,
    ServiceUnavailableError,
    UnreadableImageError,
    UnsupportedMediaTypeError,
)
from handlers.formats import npy, raster
from handlers.formats.image import Image, Limits

READABLE: Final = "JPEG, PNG, TIFF, BMP, WebP, NPY and DICOM"

_FOREIGN: Final = {
    b"\x1f\x8b": "gzip; unpack it, or send it with Content-Encoding: gzip",
    b"PK\x03\x04": "zip; send it as the body of a request, not within another list",
    b"%PDF": "PDF; send the image as PNG",
    b"GIF8": "GIF; send it as PNG",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000 outside of DICOM; send it as PNG",
    b"\xff\x4f\xff\x51": "JPEG 2000 outside of DICOM; send it as PNG",
    b"\x5c\x01\x00\x00": "NIfTI; send one slice as PNG or DICOM",
}
"""What people do send, and what to send instead."""


def decode(data: bytes, limits: Limits | None = None, at_least: tuple[int, int] | None = None) -> Image:
    """Decode one image.

    Parameters
    ----------
    data
        The encoded image.
    limits
        What may be spent on it.
    at_least
        (width, height) in pixels. A decoder that can scale down while it decodes may do so, to
        no less than this.

    Raises
    ------
    ContentTooLarge, UnsupportedMediaType, UnreadableImage, UnusableImage
        Nothing else, whatever the bytes are; `ServiceUnavailable` where memory runs out all the same.
    """
    limits = limits or Limits()
    if not data:
        raise UnreadableImageError("The body is empty; send the bytes of one image.")
    if len(data) > limits.bytes:
        raise ContentTooLargeError(
            f"The image has {len(data)} bytes; at most {limits.bytes} are read. Send it smaller or compressed."
        )
    try:
        return _decode(data, limits, at_least)
    except MemoryError as error:
        raise ServiceUnavailableError(
            "This worker has not the memory to decode the image now; send it again later, or smaller."
        ) from error


def _decode(data: bytes, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    # DICOM first: its preamble may be that of a TIFF file (PS3.10 section 7.1).
    if reader.recognises(data):
        return reader.decode(data, limits)
    if raster.recognises(data):
        return raster.decode(data, limits, at_least)
    if npy.recognises(data):
        return npy.decode(data, limits)
    foreign = next((kind for magic, kind in _FOREIGN.items() if data.startswith(magic)), None)
    raise UnsupportedMediaTypeError(
        f"The content is {foreign}."
        if foreign
        else f"The content is none of {READABLE}; send the image as one of them."
    )
