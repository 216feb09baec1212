"""PNG files inside documents, decoded with the standard library alone."""

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, JsonValue, StrictStr, model_validator

from radserve.schema.types import Document, PixelLength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS: Final = 80_000_000  # twice what a server accepts; limits the memory that a PNG can take
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 4: 2, 6: 4}
"""Colour type -> samples per pixel (PNG specification, section 11.2.2); palettes are not supported."""
_GRAY: Final = 0
_BASE64_PNG: Final[dict[str, JsonValue]] = {"contentEncoding": "base64", "contentMediaType": "image/png"}
_FILTERS: Final = range(5)


class Scanlines(NamedTuple):
    """Filtered scanlines of a PNG with 8 bits per sample; each begins with the byte that names its filter."""

    width: int
    height: int
    color_type: int
    data: bytes

    @property
    def stride(self) -> int:
        """Bytes per scanline, without the filter byte."""
        return self.width * _CHANNELS[self.color_type]

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield the filter and the filtered bytes of every scanline."""
        step = self.stride + 1
        for start in range(0, len(self.data), step):
            yield self.data[start], self.data[start + 1 : start + step]


class GrayPng(Document):
    """An 8-bit gray PNG inside a prediction; `width` and `height` in pixels, `data` in Base64."""

    encoding: Literal["png"]
    width: PixelLength
    height: PixelLength
    data: Annotated[StrictStr, Field(repr=False, json_schema_extra=_BASE64_PNG)]

    @model_validator(mode="after")
    def _check_png(self) -> Self:
        scanlines = read_scanlines(self.png, (self.width, self.height))
        if scanlines.color_type != _GRAY:
            raise ValueError(f"the PNG has colour type {scanlines.color_type}; 0 (gray) is required")
        self._check_content(scanlines)
        return self

    def _check_content(self, scanlines: Scanlines) -> None:
        """Check the scanlines further in a subclass."""

    @property
    def png(self) -> bytes:
        """PNG file."""
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"data is invalid Base64 ({error})") from error

    @property
    def gray(self) -> list[bytes]:
        """Rows of pixel values, top to bottom; decoded on every access."""
        return list(unfilter(read_scanlines(self.png)))

    @property
    def pixels(self) -> "NDArray[np.uint8]":
        """Pixel values of shape (height, width); decoded on every access. Requires NumPy."""
        import numpy as np

        return np.frombuffer(b"".join(self.gray), dtype=np.uint8).reshape(self.height, self.width)


def read_scanlines(png: bytes, size: tuple[int, int] | None = None) -> Scanlines:
    """Decompress an 8-bit PNG without interlacing.

    Raises ValueError if it is damaged, above `MAX_PIXELS`, or, before it is decompressed, has another size (width,
    height) than the given one.
    """
    header, compressed = _parts(png)
    width, height, depth, color_type, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or color_type not in _CHANNELS or interlaced:
        raise ValueError(f"the PNG has {depth} bits, colour type {color_type} or interlacing; this is not supported")
    if size not in (None, (width, height)):
        raise ValueError(f"the PNG is {width} x {height}, not {' x '.join(map(str, size))}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"the PNG has {width} x {height} pixels; the limit is {MAX_PIXELS}")
    expected = height * (width * _CHANNELS[color_type] + 1)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(compressed, expected + 1)
    except zlib.error as error:
        raise ValueError(f"the PNG is damaged ({error})") from error
    if len(data) != expected:
        raise ValueError(f"the PNG is damaged ({len(data)} bytes of pixel data instead of {expected})")
    scanlines = Scanlines(width, height, color_type, data)
    if not set(data[:: scanlines.stride + 1]) <= set(_FILTERS):
        raise ValueError("the PNG is damaged (unknown filter)")
    return scanlines


def _parts(png: bytes) -> tuple[bytes, bytes]:
    """Return the header and the compressed data."""
    header, compressed = b"", []
    for kind, content in _chunks(png):
        if not header and (kind != b"IHDR" or len(content) != 13):
            raise ValueError("the PNG is damaged (no valid IHDR chunk)")
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            compressed.append(content)
    return header, b"".join(compressed)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk; checks CRCs (PNG specification, section 5)."""
    if not png.startswith(_SIGNATURE):
        raise ValueError("the data is not a PNG file")
    position, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(png):
            raise ValueError("the PNG is damaged (truncated)")
        length, kind = struct.unpack_from(">I4s", png, position)
        end = position + 12 + length
        content = png[position + 8 : end - 4]
        if end > len(png) or zlib.crc32(kind + content) != int.from_bytes(png[end - 4 : end]):
            raise ValueError(f"the PNG is damaged (chunk {kind.decode('latin-1')!r} is truncated or altered)")
        yield kind, content
        position = end


def unfilter(scanlines: Scanlines) -> Iterator[bytes]:
    """Yield the rows of a gray PNG, top to bottom (PNG specification, section 9.2)."""
    above = bytes(scanlines.width)
    for kind, row in scanlines.rows():
        above = _unfilter_row(kind, row, above)
        yield above


def _unfilter_row(kind: int, row: bytes, above: bytes) -> bytes:
    blank = not any(row)
    if kind == 0 or (blank and (kind == 1 or not any(above))):
        return row
    if kind == 1:
        return bytes(value & 255 for value in accumulate(row))
    if kind == 2:
        return above if blank else bytes((value + up) & 255 for value, up in zip(row, above, strict=True))
    out = bytearray(len(row))
    left = corner = 0
    for index, (value, up) in enumerate(zip(row, above, strict=True)):
        left = (value + ((left + up) // 2 if kind == 3 else _paeth(left, up, corner))) & 255
        out[index], corner = left, up
    return bytes(out)


def _paeth(left: int, up: int, corner: int) -> int:
    """Predict a value from its neighbours (PNG specification, section 9.4)."""
    estimate = left + up - corner
    to_left, to_up, to_corner = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
