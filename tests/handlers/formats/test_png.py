"""Every form of PNGs: colour types, depths and transparency."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers.errors import UnusableImageError
from handlers.formats.decode import decode
from tests.handlers.images import film


def levels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data).pixels).astype(np.float64)


@pytest.mark.parametrize(("bits", "scale"), [(1, 255), (2, 85), (4, 17)], ids=["1 bit", "2 bits", "4 bits"])
def test_png_of_few_bits(bits: int, scale: int) -> None:
    values = film(top=2**bits - 1)
    stream = BytesIO()
    if bits == 1:
        Pillow.fromarray(values * 255).convert("1", dither=Pillow.Dither.NONE).save(stream, "PNG")
    else:
        gray = Pillow.fromarray(values, mode=None)
        gray.putpalette([channel for level in range(2**bits) for channel in [level * scale] * 3])
        gray.save(stream, "PNG", bits=bits)
    image = decode(stream.getvalue())
    assert image.pixels.mode == "L"
    np.testing.assert_array_equal(np.asarray(image.pixels), values * scale)


def png(values: np.ndarray, bits: int, color: int, **chunks: bytes) -> bytes:
    """Return a PNG of samples (height, width, channels), with further chunks before the image."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = values.shape
    if bits < 8:
        rows = np.packbits((values[..., :1] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = values.astype(f">u{bits // 8}").reshape(height, -1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    extra = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FORMS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)]


@pytest.mark.parametrize(("color", "bits"), FORMS)
@pytest.mark.parametrize("transparent", [False, True])
def test_png_forms(color: int, bits: int, transparent: bool) -> None:
    """Every colour type and depth; a transparent level or colour (tRNS) is black, and so is transparency."""
    top, count = 2**bits - 1, 3 if color in {2, 6} else 1
    gray = np.maximum(film(top=top, kind=np.uint16), 1)[..., None]
    values = np.concatenate([gray, gray[::-1], gray[:, ::-1]][:count], axis=-1)
    chunks, expected = {}, values * (255 / top)
    if color in {4, 6}:
        alpha = np.full_like(gray, top)
        alpha[:, 24:] = 0 if transparent else top
        expected = expected * (alpha > 0)
        values = np.concatenate([values, alpha], axis=-1)
    elif transparent:
        key = values[0, 0]
        chunks["tRNS"] = key.astype(">u2").tobytes()
        expected = expected * (values != key).any(axis=-1, keepdims=True)
    data = png(values, bits, color, **chunks)
    if (color, bits, transparent) == (2, 16, True):
        with pytest.raises(UnusableImageError, match="tRNS"):
            decode(data)
        return
    np.testing.assert_allclose(levels(data).reshape(expected.shape), expected, atol=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_palettes(bits: int, transparent: bool) -> None:
    index = film(top=2**bits - 1)
    palette = np.random.default_rng(2).integers(1, 256, (2**bits, 3)).astype(np.uint8)
    chunks = {"PLTE": palette.tobytes()} | ({"tRNS": b"\xff" * (2**bits - 1) + b"\0"} if transparent else {})
    expected = palette[index] * ((index < 2**bits - 1) | (not transparent))[..., None]
    np.testing.assert_array_equal(levels(png(index[..., None], bits, 3, **chunks)), expected)
