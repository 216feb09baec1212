"""Reads the headers of JPEG, JPEG-LS and JPEG 2000 codestreams, to check them before a decoder trusts them."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from handlers.errors import UnreadableImageError

_SOS: Final = 0xDA
_SOT, _SOD, _COD, _COC = 0x90, 0x93, 0x52, 0x53

_END: Final = b"\xff\xd9"
"""EOI or EOC: coded data never contain it (T.81, B.1.1.5; T.800, A.2)."""

_MAX_SEGMENTS: Final = 4096
"""Most marker segments or boxes of a header; real ones have tens."""

_MAX_TILE_PARTS: Final = 16_384
_MAX_BLOCKS: Final = 1 << 20
"""Most JPEG 2000 code-blocks or precincts: a decoder allocates a record for each."""

_MAX_SCANS: Final = 256
"""Most scans: one of a few bytes costs a pass over the whole image. Real files have about ten."""


@dataclass(frozen=True)
class Codestream:
    """Header of one coded frame."""

    kind: str  # `jpeg`, `jpeg-ls` or `jpeg2000` (high-throughput included)
    width: int
    height: int
    components: int
    precision: int
    lossless: bool = False  # JPEG: SOF 3, 7, 11 or 15; JPEG-LS: NEAR is 0; JPEG 2000: the wavelets are reversible
    identifiers: bytes = b""  # component identifiers of a JPEG; empty for JPEG 2000
    # without boxes around it and padding after it; empty where the end marker is missing
    content: bytes = field(default=b"", repr=False, compare=False)


def read(data: bytes) -> Codestream:
    """Read the header of a codestream, or of the JP2 file around one; reject one that is too costly to decode."""
    try:
        if data.startswith(b"\x00\x00\x00\x0cjP  "):
            data = _unboxed(data)
        end = data.rfind(_END)
        content = data[: end + len(_END)] if end >= 0 else b""
        if data.startswith(b"\xff\xd8"):
            return replace(_jpeg(data), content=content)
        if data.startswith(b"\xff\x4f\xff\x51"):
            return replace(_jpeg2000(data), content=content)
    except (struct.error, IndexError, ZeroDivisionError) as error:
        raise UnreadableImageError("The header of the codestream is damaged or incomplete.") from error
    raise UnreadableImageError("The coded pixels are not JPEG, JPEG-LS or JPEG 2000.")


def check_length(pixels: int, data: bytes, *, lossless: bool = False) -> None:
    """Reject a JPEG that declares more pixels than its bytes can hold: libjpeg would fill the rest with gray.

    A block of 8x8 pixels takes at least a bit (T.81, F.1.2 and G.1.2), without loss each pixel does (H.1.2).
    """
    if pixels > (8 if lossless else 8 * 64) * len(data):
        raise UnreadableImageError(f"The JPEG image declares more pixels than its {len(data)} bytes can hold.")


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has so many scans that decoding it takes too long; 0xFFDA is rare elsewhere."""
    # Words at even positions, then at odd ones: `data.count` takes six times as long.
    words = [np.frombuffer(data, "<u2", (len(data) - offset) // 2, offset) for offset in (0, 1)]
    return sum(int(np.count_nonzero(each == 0xDAFF)) for each in words) > _MAX_SCANS


def _jpeg(data: bytes) -> Codestream:
    """Read the frame header (ITU-T T.81, B.2.2; T.87, C.2.2 for JPEG-LS)."""
    for marker, start in _segments(data, 2, last=_SOS):
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            precision, height, width, components = struct.unpack_from(">BHHB", data, start)
            return Codestream(
                kind="jpeg-ls" if marker == 0xF7 else "jpeg",
                width=width,
                height=height,
                components=components,
                precision=precision,
                lossless=_is_exact(data, start) if marker == 0xF7 else marker in {0xC3, 0xC7, 0xCB, 0xCF},
                identifiers=bytes(data[start + 6 + 3 * index] for index in range(components)),
            )
    raise UnreadableImageError("The JPEG codestream has no frame header.")


def _is_exact(data: bytes, start: int) -> bool:
    """Whether NEAR is 0 in every scan header of a JPEG-LS codestream (T.87, C.2.3); 0xFFDA is rare elsewhere."""
    scans = re.compile(b"\xff\xda").finditer(data, start)
    return all(data[scan.end() + 3 + 2 * data[scan.end() + 2]] == 0 for scan in scans)


def _segments(data: bytes, position: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield marker and position of the parameters of each marker segment, up to and including `last`."""
    for _ in range(_MAX_SEGMENTS):
        if data[position] != 0xFF:
            raise UnreadableImageError("The codestream is damaged: a marker is missing.")
        while data[position + 1] == 0xFF:
            position += 1
        marker = data[position + 1]
        yield marker, position + 4
        if marker == last:
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 2 + length
    raise UnreadableImageError(f"The codestream has more than {_MAX_SEGMENTS} marker segments in its header.")


def _unboxed(data: bytes) -> bytes:
    """Return the contiguous codestream of a JP2 file (ITU-T T.800, I.4)."""
    position = 0
    for _ in range(_MAX_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        if kind == b"jp2c":
            return data[position + head : position + length if length else None]
        if length < head:
            break
        position += length
    raise UnreadableImageError("The JP2 file has no codestream.")


def _jpeg2000(data: bytes) -> Codestream:
    """Read SIZ (ITU-T T.800, A.5.1) and check the coding styles."""
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = struct.unpack_from(">8IH", data, 8)
    width, height = x1 - x0, y1 - y0
    samples = [struct.unpack_from(">BBB", data, 42 + 3 * index) for index in range(components)]
    if len(set(samples)) != 1 or samples[0][1:] != (1, 1):
        raise UnreadableImageError("The components of the JPEG 2000 codestream differ in depth or are subsampled.")
    tiles = -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y)
    if width <= 0 or height <= 0 or not 0 < tiles <= _MAX_TILE_PARTS:
        raise UnreadableImageError(f"The JPEG 2000 codestream declares {width}x{height} pixels in {tiles} tiles.")
    area = width * height * components
    reversible = [_check_style(data, start, area, tiles) for start in _coding_styles(data)]
    depth = samples[0][0]
    return Codestream(
        kind="jpeg2000",
        width=width,
        height=height,
        components=components,
        precision=(depth & 0x7F) + 1,
        lossless=all(reversible),
    )


def _coding_styles(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield position and size of the component index of each COD and COC, in main and tile-part headers (A.6)."""
    (components,) = struct.unpack_from(">H", data, 40)
    index = {_COD: 0, _COC: 1 if components < 257 else 2}
    position = 2
    for marker, start in _segments(data, position, last=_SOT):
        position = start - 4
        if marker in index:
            yield start, index[marker]
    for _ in range(_MAX_TILE_PARTS):
        length = 0
        for marker, start in _segments(data, position, last=_SOD):
            if marker == _SOT:
                (length,) = struct.unpack_from(">I", data, start + 2)
            elif marker in index:
                yield start, index[marker]
        position += length
        if length == 0 or data[position : position + 2] != bytes((0xFF, _SOT)):
            return
    raise UnreadableImageError(f"The JPEG 2000 codestream has more than {_MAX_TILE_PARTS} tile-parts.")


def _check_style(data: bytes, where: tuple[int, int], area: int, tiles: int) -> bool:
    """Reject numbers of code-blocks, precincts and layers that would exhaust a decoder's memory.

    Return whether the wavelet is reversible (T.800, table A.20).
    """
    start, skip = where
    own_precincts = data[start + skip] & 1
    layers = 1 if skip else struct.unpack_from(">H", data, start + 2)[0]
    levels, block_x, block_y = struct.unpack_from(">BBB", data, start + (1 + skip if skip else 5))
    sizes = data[start + (6 + skip if skip else 10) :][: levels + 1] if own_precincts else b"\xff"
    smallest = min(((size & 15) + (size >> 4) for size in sizes), default=0)
    blocks = area >> ((block_x & 15) + (block_y & 15) + 4)
    precincts = (area >> smallest) + tiles * (levels + 1)
    if levels > 32 or max(blocks, precincts) > _MAX_BLOCKS or layers * precincts > 16 * _MAX_BLOCKS:
        raise UnreadableImageError(
            f"The JPEG 2000 codestream has {blocks} code-blocks, {precincts} precincts and {layers} layers; "
            "encode it with usual parameters (64x64, one precinct, a few layers)."
        )
    return data[start + (5 + skip if skip else 9)] == 1
