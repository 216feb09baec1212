"""Writes PNG files with the standard library alone."""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

Color = tuple[int, int, int, int]  # red, green, blue, opacity; 0 to 255

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PALETTE: Final = 3  # colour type (PNG specification, section 11.2.2)


def colored(width: int, height: int, rows: Iterable[bytes], color: Callable[[int], Color]) -> bytes:
    """Return a PNG whose pixels have the color of their value in 8-bit gray rows."""
    palette: Sequence[Color] = [color(value) for value in range(256)]
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)
    return b"".join(
        [
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", b"".join(bytes(entry[:3]) for entry in palette)),
            _chunk(b"tRNS", bytes(entry[3] for entry in palette)),
            _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
