import base64
import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from radserve.client import response
from radserve.errors import InvalidResponseError
from radserve.schema.explanation import Explanation
from radserve.schema.png import GrayPng, read_scanlines, unfilter
from radserve.schema.prediction import Image
from radserve.schema.response import RESULT
from tests.radserve.scripted import SHA256, explanation, picture, png, segmentation

GRAY = np.arange(200, dtype=np.uint8).reshape(10, 20)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(
    width: int, height: int, scanlines: bytes, *, depth: int = 8, color_type: int = 0, interlaced: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(scanlines)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@st.composite
def _pngs(draw: st.DrawFn) -> bytes:
    """Any filter with any residuals is a valid PNG; half of the rows are blank, as in masks."""
    width, height = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    row = st.binary(min_size=width, max_size=width) | st.just(bytes(width))
    rows = draw(st.lists(st.tuples(st.integers(0, 4), row), min_size=height, max_size=height))
    return encoded(width, height, b"".join(bytes([kind]) + row for kind, row in rows))


@settings(max_examples=300, deadline=None)
@given(file=_pngs())
def test_pixels_are_those_that_pillow_decodes(file: bytes) -> None:
    assert b"".join(unfilter(read_scanlines(file))) == Pillow.open(io.BytesIO(file)).tobytes()


def test_a_gray_png_gives_rows_and_an_array() -> None:
    decoded = GrayPng.model_validate(picture(GRAY))
    assert decoded.png == png(GRAY)
    assert b"".join(decoded.gray) == GRAY.tobytes()
    np.testing.assert_array_equal(decoded.pixels, GRAY)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "not a PNG file"),
        (b"\xff\xd8\xff", "not a PNG file"),
        (png(GRAY)[:8], "truncated"),
        (png(GRAY)[:-20], "truncated"),
        (png(GRAY)[:-12], "truncated"),
        (png(GRAY)[:45] + b"?" + png(GRAY)[46:], "altered"),
        (png(GRAY)[:8] + png(GRAY)[33:], "no valid IHDR"),
        (encoded(2, 2, b"\0ab\0a"), "5 bytes of pixel data instead of 6"),
        (encoded(2, 2, b"\0ab\0abc"), "7 bytes of pixel data instead of 6"),
        (encoded(2, 1, b"\5ab"), "unknown filter"),
        (encoded(2, 1, b"\0abcd", depth=16), "16 bits"),
        (encoded(2, 1, b"\0ab", color_type=3), "colour type 3"),
        (encoded(2, 1, b"\0ab", interlaced=1), "interlacing"),
        (encoded(20_000, 20_000, b""), "the limit is 80000000"),
    ],
)
def test_a_damaged_or_unsupported_file_is_rejected_with_the_reason(file: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_scanlines(file)


WIDTH = HEIGHT = 5000
BOMB = encoded(WIDTH, HEIGHT, bytes(HEIGHT * (WIDTH + 1)))
EMBEDDED = {"encoding": "png", "width": WIDTH, "height": HEIGHT, "data": base64.b64encode(BOMB).decode()}
MAP = EMBEDDED | {"method": "grad-cam", "label": "normal", "empty": True}
SMALL = Image(format="png", width=20, height=10, sha256=SHA256)
INFLATIONS: dict[str, Callable[[], object]] = {
    "declared": lambda: GrayPng.model_validate(EMBEDDED | {"width": 20, "height": 10}),
    "mask": lambda: RESULT.validate_python(segmentation(b"x", mask=EMBEDDED)),
    "map": lambda: Explanation.model_validate(explanation(b"x", **MAP)),
    "picture": lambda: response.picture(
        httpx.Response(200, content=BOMB, headers={"Content-Type": "image/png"}), SMALL
    ),
}


@pytest.mark.parametrize("validate", INFLATIONS.values(), ids=INFLATIONS)
def test_a_png_of_another_size_than_its_image_is_not_inflated(validate: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, InvalidResponseError), match="5000 x 5000"):
            validate()
        assert tracemalloc.get_traced_memory()[1] < WIDTH * HEIGHT / 10
    finally:
        tracemalloc.stop()


def test_colour_pictures_are_checked_without_numpy_or_pillow() -> None:
    code = """
import sys
from radserve.schema.png import read_scanlines
scanlines = read_scanlines(sys.stdin.buffer.read())
print(scanlines.width, scanlines.height, scanlines.color_type, {"numpy", "PIL"} & set(sys.modules))
"""
    colour = png(np.stack([GRAY] * 3, axis=2))
    done = subprocess.run([sys.executable, "-c", code], input=colour, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[0] == "20 10 2 set()"
