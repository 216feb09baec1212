"""Re-encoded copies of images, as archives, viewers and messengers make them; a model's images too."""

import io
import random
from typing import Final

import numpy as np
from PIL import Image as Pillow

from handlers.formats.decode import decode

_QUALITIES: Final = (60, 95)
_SCALES: Final = (0.6, 1.5)
_LEVELS: Final = (48, 64, 96, 128)
_NOISE: Final = 1.5
"""Largest standard deviation of noise, in levels of 8 bits: what rounding to fewer levels removes."""


def copy(data: bytes, generator: random.Random) -> bytes:
    """Re-encode an image as JPEG or WebP; half of the copies are scaled, a quarter have fewer or more gray levels."""
    image = decode(data).pixels
    if image.mode == "F":  # deeper gray, in the levels of 8 bits
        image = image.convert("L")
    if generator.random() < 0.5:
        image = _scaled(image, generator)
    if generator.random() < 0.25:
        image = _requantised(image, generator)
    format_ = generator.choice(("JPEG", "JPEG", "WEBP"))
    return encode(image, format_, quality=generator.randint(*_QUALITIES))


def encode(image: Pillow.Image, format_: str = "PNG", **options: int) -> bytes:
    """Encode an image."""
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def _scaled(image: Pillow.Image, generator: random.Random) -> Pillow.Image:
    """Scale an image, and back to its size if it became smaller, so that it stays large enough for the model."""
    factor = generator.uniform(*_SCALES)
    size = (max(32, round(image.width * factor)), max(32, round(image.height * factor)))
    scaled = image.resize(size, Pillow.Resampling.BICUBIC)
    return scaled if factor > 1 else scaled.resize(image.size, Pillow.Resampling.BILINEAR)


def _requantised(image: Pillow.Image, generator: random.Random) -> Pillow.Image:
    values = np.asarray(image).astype(np.float32)
    if generator.random() < 0.5:
        step = 256 / generator.choice(_LEVELS)
        values = np.floor(values / step) * step
    else:
        noise = np.random.default_rng(generator.getrandbits(32)).normal(size=values.shape[:2])
        noise = noise[..., None] if values.ndim == 3 else noise
        values = np.where(values > 0, values + noise * generator.uniform(0, _NOISE), values)
    return Pillow.fromarray(values.clip(0, 255).round().astype(np.uint8))
