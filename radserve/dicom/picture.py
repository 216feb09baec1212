"""Draws the picture of a secondary capture: the image with its overlay, a legend and a notice."""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from radserve.errors import InvalidResponseError

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_SIDES: Final = (640, 1280)
"""Least and most pixels of the longer side of the image: texts are legible, and an object has a few megabytes."""
_MIN_WIDTH: Final = 480
"""Pixels that lines of text need; a narrower image is in the middle."""
_TEXT: Final = (235, 235, 235)
_WARNING: Final = (255, 196, 0)


def draw(
    png: bytes, notice: str, lines: list[str], legend: list[tuple[str, list[tuple[int, int, int]]]]
) -> NDArray[np.uint8]:
    """Return RGB pixels: the notice above the image, lines of text and the legend below it.

    `legend` has texts with the colours that they explain, from left to right. Raises InvalidResponseError if the
    picture is damaged.
    """
    image = _scaled(_decoded(png))
    width = max(image.width, _MIN_WIDTH)
    size = max(14, width // 42)
    font = ImageFont.load_default(size)
    step, indent = size * 3 // 2, size // 2
    notices = _wrapped(notice, font, width - size)
    rows = [part for line in lines for part in _wrapped(line, font, width - size)]
    entries = [(_wrapped(text, font, width - 6 * size), colours) for text, colours in legend]
    top, below = step * len(notices), len(rows) + sum(len(parts) for parts, _ in entries)
    canvas = Image.new("RGB", (width, top + image.height + step * below + size))
    canvas.paste(image, ((width - image.width) // 2, top))
    drawing = ImageDraw.Draw(canvas)
    _write(drawing, notices, (indent, size // 4), step, _WARNING, font)
    y = _write(drawing, rows, (indent, top + image.height + indent), step, _TEXT, font)
    for parts, colours in entries:
        x = _swatch(drawing, (indent, y), size, colours)
        y = _write(drawing, parts, (x + indent, y), step, _TEXT, font)
    return np.asarray(canvas)


def _decoded(png: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(png)).convert("RGB")
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InvalidResponseError("The picture of the server is damaged.") from error


def _scaled(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    factor = min(max(1.0, _SIDES[0] / longest), _SIDES[1] / longest)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS)


def _wrapped(text: str, font: _Font, width: int) -> list[str]:
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def _write(
    drawing: ImageDraw.ImageDraw,
    rows: list[str],
    at: tuple[int, int],
    step: int,
    colour: tuple[int, int, int],
    font: _Font,
) -> int:
    """Write rows of text below each other, and return where the next one begins."""
    x, y = at
    for row in rows:
        drawing.text((x, y), row, colour, font)
        y += step
    return y


def _swatch(drawing: ImageDraw.ImageDraw, at: tuple[int, int], size: int, colours: list[tuple[int, int, int]]) -> int:
    """Draw the colours from left to right, and return where they end."""
    (x, y), width = at, max(1, 4 * size // len(colours))
    for number, colour in enumerate(colours):
        left = x + number * width
        drawing.rectangle((left, y, left + width - 1, y + size), fill=colour)
    return x + width * len(colours)
