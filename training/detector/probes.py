"""Images that a model must not analyse, made from held-out images or drawn; only to measure a detector."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter, ImageFont, ImageOps

Change = Callable[[Pillow.Image, random.Random], Pillow.Image]
Drawing = Callable[[random.Random], Pillow.Image]
_SIDE: Final = 512
_WORDS: Final = "the patient was seen for follow up of a known lesion without change since the last visit"


def _cropped(share: float) -> Change:
    def crop(image: Pillow.Image, generator: random.Random) -> Pillow.Image:
        width, height = round(image.width * share), round(image.height * share)
        left, top = (generator.randint(0, most) for most in (image.width - width, image.height - height))
        inner = image.crop((left, top, left + width, top + height))
        return inner.resize(image.size, Pillow.Resampling.BICUBIC)

    return crop


def _photographed(image: Pillow.Image, generator: random.Random) -> Pillow.Image:
    """Imitate a photograph of a screen: pixel grid, perspective, glare, a dark frame, uneven light, noise."""
    side = 640
    shown = np.asarray(image.convert("L").resize((side, side), Pillow.Resampling.BICUBIC)).astype(np.float32) / 255
    y, x = np.mgrid[:side, :side].astype(np.float32)
    grid = _waves(x, y, generator.uniform(2.2, 5), generator)
    moire = _waves(x, y, generator.uniform(5, 30), generator)  # of the grid with that of the camera
    pattern = generator.uniform(0.02, 0.08) * grid + generator.uniform(0.04, 0.12) * moire
    shown = 0.06 + 0.85 * (shown + 0.1) * (1 + pattern)
    centre_x, centre_y = generator.uniform(0.1, 0.9) * side, generator.uniform(0.1, 0.9) * side
    distance = np.hypot(x - centre_x, y - centre_y) / side
    shown += generator.uniform(0.15, 0.4) * np.exp(-((distance / generator.uniform(0.15, 0.35)) ** 2))
    shown += np.random.default_rng(generator.getrandbits(32)).normal(size=shown.shape) * 0.015
    screen = Pillow.fromarray((shown.clip(0, 1) * 255).astype(np.uint8))
    photo = screen.transform(
        (side, side), Pillow.Transform.QUAD, _corners(side, generator), Pillow.Resampling.BICUBIC, fillcolor=25
    )
    return photo.filter(ImageFilter.GaussianBlur(0.6)).resize(
        (max(image.width, 256), max(image.height, 256)), Pillow.Resampling.BILINEAR
    )


def _waves(
    x: NDArray[np.float32], y: NDArray[np.float32], period: float, generator: random.Random
) -> NDArray[np.float32]:
    """Return the sum of waves of this period in two perpendicular directions."""
    angle = generator.uniform(0, math.pi)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return np.sin(2 * math.pi * u / period) + np.sin(2 * math.pi * v / period)


def _corners(side: int, generator: random.Random) -> tuple[float, ...]:
    """Return the corners of a quadrilateral, some of them outside of the image: upper left, then against the clock."""
    around = ((0, 0), (0, side), (side, side), (side, 0))
    return tuple(value + generator.uniform(-0.07, 0.07) * side for corner in around for value in corner)


CHANGES: Final[Mapping[str, Change]] = {
    "rotated by 90 degrees": lambda image, _: image.transpose(Pillow.Transpose.ROTATE_270),
    "rotated by 180 degrees": lambda image, _: image.transpose(Pillow.Transpose.ROTATE_180),
    "rotated by 270 degrees": lambda image, _: image.transpose(Pillow.Transpose.ROTATE_90),
    "inverted": lambda image, _: ImageOps.invert(image),
    "cropped to 60 % of the sides": _cropped(0.6),
    "cropped to 30 % of the sides": _cropped(0.3),
    "photographed from a screen": _photographed,
}
"""Changes of held-out images; `Pillow` rotates against the clock."""


def _noise(generator: random.Random) -> Pillow.Image:
    """Draw noise: of single pixels, or of blots of up to 32 pixels."""
    size = _SIDE // 2 ** generator.randint(0, 5)
    values = np.random.default_rng(generator.getrandbits(32)).normal(128, generator.uniform(20, 70), (size, size))
    return _gray(values).resize((_SIDE, _SIDE), Pillow.Resampling.BICUBIC)


def _gradient(generator: random.Random) -> Pillow.Image:
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    if generator.random() < 0.3:
        values = np.hypot(x - generator.random(), y - generator.random())
    else:
        values = x * generator.uniform(-1, 1) + y * generator.uniform(-1, 1)
    return _gray((values - values.min()) / np.ptp(values) * 255)


def _text(generator: random.Random) -> Pillow.Image:
    page = Pillow.new("L", (_SIDE, round(_SIDE * 1.3)), 255 - generator.randint(0, 20))
    pen, size = ImageDraw.Draw(page), generator.randint(9, 22)
    _write(pen, (24, 24, page.width - 24, page.height - generator.randint(24, 300)), size, 20, generator)
    return page


def _screenshot(generator: random.Random) -> Pillow.Image:
    light = generator.random() < 0.5
    screen = Pillow.new("L", (640, 480), 240 if light else 30)
    pen, ink = ImageDraw.Draw(screen), 30 if light else 220
    pen.rectangle((0, 0, 640, 28), fill=90)
    pen.rectangle((0, 28, generator.randint(80, 180), 480), fill=200 if light else 60)
    for _ in range(generator.randint(2, 5)):
        left, top = generator.randint(0, 500), generator.randint(30, 400)
        box = (left, top, left + generator.randint(60, 300), top + generator.randint(40, 200))
        pen.rectangle(box, fill=generator.randint(0, 255), outline=ink)
        _write(pen, box, 11, ink, generator)
    return screen


def _write(
    pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], size: int, ink: int, generator: random.Random
) -> None:
    words = _WORDS.split()
    for top in range(box[1], box[3] - size, round(size * 1.4)):
        line = " ".join(generator.choices(words, k=max(1, (box[2] - box[0]) // (4 * size))))
        pen.text((box[0], top), line, fill=ink, font=ImageFont.load_default(size))


def _scene(generator: random.Random) -> Pillow.Image:
    """Draw shapes with textures and shading, as in a photograph of things, in gray."""
    random_ = np.random.default_rng(generator.getrandbits(32))
    y, x = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    values = generator.uniform(60, 200) + 60 * (x * generator.uniform(-1, 1) + y * generator.uniform(-1, 1))
    for _ in range(generator.randint(4, 12)):
        angle, width, height = generator.uniform(0, 3.14), generator.uniform(0.05, 0.35), generator.uniform(0.05, 0.35)
        u, v = x - generator.random(), y - generator.random()
        u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        round_ = generator.random() < 0.5
        inside = (u / width) ** 2 + (v / height) ** 2 < 1 if round_ else (abs(u) < width) & (abs(v) < height)
        stripes = generator.uniform(0, 40) * np.sin(2 * np.pi * u * generator.uniform(5, 40))
        values = np.where(inside, generator.uniform(10, 245) + 80 * v + stripes, values)
    values += random_.normal(size=values.shape) * generator.uniform(1, 8)
    return _gray(values).filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.5)))


def _gray(values: NDArray[np.floating]) -> Pillow.Image:
    return Pillow.fromarray(values.clip(0, 255).astype(np.uint8))


DRAWINGS: Final[Mapping[str, Drawing]] = {
    "drawn scenes": _scene,
    "noise": _noise,
    "gradients": _gradient,
    "pages of text": _text,
    "screenshots": _screenshot,
}
