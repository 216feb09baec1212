"""Reads gray and RGB TIFFs at full depth: Pillow changes or rejects many layouts that the format allows.

Sections are those of TIFF 6.0; predictor 3 is Adobe's technical note 3, BigTIFF is that of libtiff.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from handlers.errors import UnreadableImageError, UnusableImageError
from handlers.formats.image import Limits
from handlers.formats.intensity import from_float, from_integer

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 317, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_LISTS: Final = frozenset({_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS})
_TAGS: Final = _LISTS | {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP),
    *(_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT),
}
_MAX_TAGS: Final = 4096
_MAX_NUMBERS: Final = 64
"""Most numbers of a tag that is not a list of strips or tiles."""

_FORMATS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of whole numbers (section 2)."""
_MAX_SEGMENTS: Final = 1 << 17
"""Most strips or tiles: each takes some microseconds. A film with a strip for each row and channel has some 10,000."""
_MAX_PADDED: Final = 1 << 22
"""Pixels of all tiles together that are acceptable for an image of any size."""
_BYTES_PER_PIXEL: Final = 8
"""Most bytes of decoded samples, for each pixel that the limit allows: up to three copies exist at a time."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NONE, _LZW, _JPEG, _PACKBITS = 1, 5, 7, 32773
_DEFLATE: Final = (8, 32946)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4


@dataclass(frozen=True)
class Layout:
    """How the first image of a TIFF is stored."""

    width: int
    height: int
    block: tuple[int, int]  # height and width of a strip or tile
    is_tiled: bool
    samples: int
    bits: tuple[int, ...]
    sample_format: tuple[int, ...]
    extra: tuple[int, ...]
    photometric: int
    compression: int
    predictor: int
    planar: int
    orientation: int
    fill_order: int
    byte_order: str
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    is_only: bool  # whether no other image follows

    @property
    def is_plain(self) -> bool:
        """Whether `decode` reads it: gray or RGB, with a lossless compression other than those of fax machines."""
        lossless = self.compression in {_NONE, _LZW, _PACKBITS, *_DEFLATE}
        return lossless and self.photometric in {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB}

    @property
    def channels(self) -> int:
        """Channels without extra samples."""
        return 3 if self.photometric == _RGB else 1


def read_layout(data: bytes, limits: Limits) -> Layout:
    """Read the first directory (section 2), and reject an image that is too costly to decode."""
    order = "<" if data[:2] == b"II" else ">"
    tags, is_only = _directory(data, order)
    layout = _layout(tags, order, is_only=is_only)
    limits.claim(layout.width, layout.height)
    if not is_only:
        raise UnusableImageError("The TIFF file has several frames; send each frame as a separate image.")
    _check(layout, limits, len(data))
    return layout


def _directory(data: bytes, order: str) -> tuple[Mapping[int, tuple[int, ...]], bool]:
    """Return the whole numbers of the tags, and whether no other directory follows."""
    if data[2:4] in {b"+\0", b"\0+"}:
        number, entry, offset, inline = "Q", "HHQ", "Q", 8
        (start,) = struct.unpack_from(f"{order}Q", data, 8)
    else:
        number, entry, offset, inline = "H", "HHI", "I", 4
        (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(order + number, data, start)
    start += struct.calcsize(order + number)
    size = struct.calcsize(order + entry) + inline
    tags: dict[int, tuple[int, ...]] = {}
    seen: set[int] = set()
    if count > _MAX_TAGS:
        raise UnreadableImageError(f"The TIFF directory has {count} tags, more than any image; export it again.")
    for position in range(start, start + count * size, size):
        tag, kind, length = struct.unpack_from(order + entry, data, position)
        value = position + size - inline
        if tag in seen:  # readers differ in which of them they use
            raise UnreadableImageError(f"The TIFF directory has tag {tag} twice; export the image again.")
        seen.add(tag)
        if tag not in _TAGS:
            continue
        if kind not in _FORMATS or not 0 < length <= (_MAX_SEGMENTS if tag in _LISTS else _MAX_NUMBERS):
            raise UnreadableImageError(
                f"Tag {tag} of the TIFF directory has {length} values of type {kind}; export the image again."
            )
        if length * struct.calcsize(_FORMATS[kind]) > inline:
            (value,) = struct.unpack_from(order + offset, data, value)
        tags[tag] = struct.unpack_from(f"{order}{length}{_FORMATS[kind]}", data, value)
    (following,) = struct.unpack_from(order + offset, data, start + count * size)
    return tags, following == 0


def _layout(tags: Mapping[int, tuple[int, ...]], order: str, *, is_only: bool) -> Layout:
    def number(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    width, height, samples = number(_WIDTH, 0), number(_HEIGHT, 0), number(_SAMPLES, 1)
    is_tiled = _TILE_WIDTH in tags or _TILE_OFFSETS in tags
    block = (
        (number(_TILE_HEIGHT, 0), number(_TILE_WIDTH, 0))
        if is_tiled
        else (min(number(_ROWS_PER_STRIP, height), height), width)
    )
    return Layout(
        width=width,
        height=height,
        block=block,
        is_tiled=is_tiled,
        samples=samples,
        bits=tags.get(_BITS, (1,)),
        sample_format=tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)),
        extra=tags.get(_EXTRA_SAMPLES, ()),
        photometric=number(_PHOTOMETRIC, -1),
        compression=number(_COMPRESSION, _NONE),
        predictor=number(_PREDICTOR, 1),
        planar=number(_PLANAR, 1),
        orientation=number(_ORIENTATION, 1),
        fill_order=number(_FILL_ORDER, 1),
        byte_order=order,
        offsets=tags.get(_TILE_OFFSETS, tags.get(_STRIP_OFFSETS, ())),
        counts=tags.get(_TILE_COUNTS, tags.get(_STRIP_COUNTS, ())),
        is_only=is_only,
    )


def _check(layout: Layout, limits: Limits, length: int) -> None:
    """Reject samples that have no gray level, and blocks that do not fit the image or the length of the file."""
    if min(layout.width, layout.height, *layout.block) < 1:
        raise UnreadableImageError("The TIFF image has no pixels; export it again.")
    if _SIGNED in layout.sample_format:
        raise UnusableImageError("The TIFF image has signed samples; send 8 or 16 unsigned bits, or floats in [0, 1].")
    _check_size(layout, limits)
    _check_blocks(layout, length)
    if layout.is_plain:
        _check_plain(layout)
    elif max(layout.bits) > 8 or layout.planar != 1 or not _is_picture(layout):
        raise UnusableImageError(
            f"Unsupported TIFF: photometric interpretation {layout.photometric}, compression {layout.compression}, "
            f"planar configuration {layout.planar}, {max(layout.bits)} bits. "
            "Export it as gray or RGB with LZW or without compression."
        )


def _check_size(layout: Layout, limits: Limits) -> None:
    """Reject an image that decodes to too many bytes, its padding included, and account for them."""
    area = layout.width * layout.height
    padded = prod(_grid(layout)) * prod(layout.block)
    if padded > max(4 * area, _MAX_PADDED):
        raise UnreadableImageError(
            f"The TIFF image has tiles of {prod(layout.block)} pixels, but only {area} pixels; export it as PNG."
        )
    size = padded * layout.samples * -(-max(layout.bits) // 8)
    if size > _BYTES_PER_PIXEL * limits.pixels:
        raise UnusableImageError(
            f"The TIFF image decodes to {size} bytes; the limit is {_BYTES_PER_PIXEL * limits.pixels}. Send fewer bits."
        )
    limits.budget.spend(pixels=max(0, size // _BYTES_PER_PIXEL - area))


def _check_blocks(layout: Layout, length: int) -> None:
    """Reject strips or tiles that are missing, superfluous or overlapping."""
    blocks = prod(_grid(layout)) * (layout.samples if layout.planar == 2 else 1)
    is_counted = layout.counts or layout.compression != _NONE
    if len(layout.offsets) != blocks or len(layout.counts) != (blocks if is_counted else 0):
        raise UnreadableImageError(f"The TIFF image must have {blocks} strips or tiles; export it again.")
    if sum(layout.counts) > length:
        raise UnreadableImageError(
            f"The strips or tiles of the TIFF image have {sum(layout.counts)} bytes, the file has {length}; "
            "export it again."
        )


def _is_picture(layout: Layout) -> bool:
    """Whether Pillow decodes the image as other readers do, if it has 8 bits or fewer."""
    if layout.photometric == _YCBCR:
        return layout.compression == _JPEG
    return layout.photometric in {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK}


def _check_plain(layout: Layout) -> None:
    bits, kind = layout.bits[0], layout.sample_format[0]
    if len({*layout.bits}) > 1 or len({*layout.sample_format}) > 1:
        raise UnusableImageError("The channels of the TIFF image differ in depth; send 8 or 16 bits for each.")
    is_whole = kind in {_UNSIGNED, _UNDEFINED}
    if not (1 <= bits <= 16 if is_whole else kind == _FLOAT and bits in {16, 32, 64}):
        name = "integer" if is_whole else "float" if kind == _FLOAT else "complex"
        raise UnusableImageError(f"The image has {bits}-bit {name} samples; send 8 or 16 bits, or floats of 32 bits.")
    if layout.planar not in {1, 2}:
        raise UnreadableImageError(f"The TIFF image has planar configuration {layout.planar}; 1 and 2 are valid.")
    if layout.samples != layout.channels + len(layout.extra):
        raise UnusableImageError(
            f"The TIFF image has {layout.samples} samples per pixel, {len(layout.extra)} of them declared as extra; "
            "export it without an alpha channel."
        )
    compressed = layout.compression in {_LZW, *_DEFLATE}
    if not (
        layout.predictor == 1
        or (layout.predictor == 2 and compressed and bits % 8 == 0)
        or (layout.predictor == 3 and compressed and kind == _FLOAT)
    ):
        raise UnusableImageError("The TIFF image has a predictor that does not fit its samples; export it without one.")


def _grid(layout: Layout) -> tuple[int, int]:
    """Return the rows and columns of blocks."""
    return -(-layout.height // layout.block[0]), -(-layout.width // layout.block[1])


def decode(data: bytes, layout: Layout) -> Pillow.Image:
    """Decode a plain image upright, transparency composed over black."""
    samples = _samples(data, layout)
    values = samples[..., 0] if layout.channels == 1 else samples[..., :3]
    if _ASSOCIATED in layout.extra or _UNASSOCIATED in layout.extra:
        values = _opaque(values, samples, layout)
    del samples  # to save memory
    is_float = layout.sample_format[0] == _FLOAT
    picture = from_float(values) if is_float else from_integer(values, layout.bits[0])
    if layout.photometric == _WHITE_IS_ZERO:
        white = np.asarray(picture)
        picture = Pillow.fromarray(white.dtype.type(255) - white)
    if layout.orientation != 1:
        picture.getexif()[_ORIENTATION] = layout.orientation
        picture = ImageOps.exif_transpose(picture)
    return picture


def _opaque(values: NDArray[Any], samples: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Compose over black: an associated alpha has been multiplied already (section 18)."""
    alpha = samples[..., layout.channels + min(map(layout.extra.index, {*layout.extra} & {_ASSOCIATED, _UNASSOCIATED}))]
    top = 1 if layout.sample_format[0] == _FLOAT else 2 ** layout.bits[0] - 1
    if (alpha == top).all():
        return values
    if layout.sample_format[0] == _FLOAT or layout.photometric == _WHITE_IS_ZERO:
        raise UnusableImageError(
            "Transparent TIFFs with floats or WhiteIsZero are not supported; export without alpha."
        )
    if _UNASSOCIATED not in layout.extra:
        return values
    composed = np.empty_like(values)
    for channel in np.ndindex(values.shape[2:]):  # one at a time, to save memory
        product = values[..., *channel].astype(np.uint32)
        product *= alpha
        product += top // 2
        composed[..., *channel] = product // top
    return composed


def _samples(data: bytes, layout: Layout) -> NDArray[Any]:
    """Decode all strips or tiles to (height, width, samples), in the machine's byte order."""
    rows, columns = _grid(layout)
    height, width = layout.block
    output = np.empty((layout.height, layout.width, layout.samples), _type(layout, "="))
    depth = 1 if layout.planar == 2 else layout.samples
    for index in range(len(layout.offsets)):
        plane, position = divmod(index, rows * columns)
        top, left = position // columns * height, position % columns * width
        lines = height if layout.is_tiled else min(height, layout.height - top)
        block = _block(data, layout, index, (lines, width, depth))
        part = block[: layout.height - top, : layout.width - left]
        output[top : top + height, left : left + width, plane : plane + depth] = part
    return output


def _type(layout: Layout, order: str) -> np.dtype[Any]:
    letter, bits = "f" if layout.sample_format[0] == _FLOAT else "u", layout.bits[0]
    return np.dtype(f"{order}{letter}{bits // 8 if letter == 'f' else 1 if bits <= 8 else 2}")


def _block(data: bytes, layout: Layout, index: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Decode one strip or tile to (height, width, samples)."""
    bits = layout.bits[0]
    rows, columns, depth = shape
    line = -(-columns * depth * bits // 8)
    size = rows * line
    start = layout.offsets[index]
    length = layout.counts[index] if layout.counts else size
    coded = data[start : start + (min(length, size) if layout.compression == _NONE else length)]
    if layout.fill_order == 2:
        coded = bytes(imagecodecs.bitorder_decode(coded))
    raw = _decompress(coded, layout.compression, size, room=layout.block[0] * line)[:size]
    if len(raw) < size:
        raise UnreadableImageError("The TIFF image is incomplete: a strip or tile is too short; export it again.")
    if bits % 8:
        unpacked: NDArray[Any] = imagecodecs.packints_decode(
            bytes(raw), _type(layout, "="), bits, runlen=columns * depth
        )
        return unpacked.reshape(shape)
    if layout.predictor == 3:  # differences of bytes, in any byte order
        floats: NDArray[Any] = imagecodecs.floatpred_decode(
            np.frombuffer(raw, _type(layout, "=")).reshape(shape), axis=-2
        )
        return floats
    samples = np.frombuffer(raw, _type(layout, layout.byte_order)).reshape(shape)
    if layout.predictor == 2:
        words = samples.view(f"{layout.byte_order}u{bits // 8}")
        return np.add.accumulate(words, axis=1, dtype=f"u{bits // 8}").view(_type(layout, "="))
    return samples


def _decompress(coded: bytes, compression: int, size: int, room: int) -> memoryview:
    """Decompress a strip or tile: the first `size` bytes at least, up to `room`, those of a strip of full height."""
    if compression == _NONE:
        return memoryview(coded)
    if compression in _DEFLATE:
        # One byte more, so that the end of the stream is read, and with it the checksum.
        return memoryview(zlib.decompressobj().decompress(coded, size + 1))
    if compression == _LZW:
        return memoryview(imagecodecs.lzw_decode(coded, out=size))
    return memoryview(imagecodecs.packbits_decode(coded, out=room))  # raises for fewer bytes than the last strip has
