"""Draws the picture of a secondary capture: the image with its overlay, a legend and a notice."""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_SIDES: Final = (640, 1280)
"""Least and most pixels of the longer side of the image: texts are legible, and an object has a few megabytes."""
_TEXT: Final = (235, 235, 235)
_WARNING: Final = (255, 196, 0)


def draw(
    png: bytes, notice: str, lines: list[str], legend: list[tuple[str, list[tuple[int, int, int]]]]
) -> NDArray[np.uint8]:
    """Return RGB pixels: the notice above the image, lines of text and the legend below it.

    `legend` has texts with the colours that they explain, from left to right.
    """
    image = _scaled(Image.open(BytesIO(png)).convert("RGB"))
    size = max(14, image.width // 42)
    font = ImageFont.load_default(size)
    step = size * 3 // 2
    rows = [part for line in lines for part in _wrapped(line, font, image.width - size)]
    height = step * (len(rows) + len(legend)) + size
    canvas = Image.new("RGB", (image.width, image.height + step + height))
    canvas.paste(image, (0, step))
    drawing = ImageDraw.Draw(canvas)
    drawing.text((size // 2, size // 4), notice, _WARNING, font)
    y = image.height + step + size // 2
    for row in rows:
        drawing.text((size // 2, y), row, _TEXT, font)
        y += step
    for text, colours in legend:
        x = _swatch(drawing, (size // 2, y), size, colours)
        drawing.text((x + size // 2, y), text, _TEXT, font)
        y += step
    return np.asarray(canvas)


def _scaled(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    factor = min(max(1.0, _SIDES[0] / longest), _SIDES[1] / longest)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and font.getlength(longer) > width:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows


def _swatch(drawing: ImageDraw.ImageDraw, at: tuple[int, int], size: int, colours: list[tuple[int, int, int]]) -> int:
    """Draw the colours from left to right, and return where they end."""
    (x, y), width = at, max(1, 4 * size // len(colours))
    for number, colour in enumerate(colours):
        left = x + number * width
        drawing.rectangle((left, y, left + width - 1, y + size), fill=colour)
    return x + width * len(colours)
