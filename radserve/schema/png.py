"""A PNG that a server sent: decoded and measured before anybody relies on it."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from dataclasses import field
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import StrictStr, model_validator
from pydantic.dataclasses import dataclass

from radserve.schema.prediction import Image, Pixels

_MOST_PIXELS: Final = 80_000_000
"""Twice what a server takes, and below where Pillow warns of a decompression bomb."""
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER: Final = 24
"""Bytes until the size has been said (PNG specification, sections 5.2 and 11.2.2)."""


@dataclass(frozen=True)
class Picture:
    """A gray picture inside an answer.

    Attributes
    ----------
    width, height
        In pixels; those of the PNG itself.
    data
        The PNG, as base64.
    """

    encoding: Literal["png"]
    width: Pixels
    height: Pixels
    data: StrictStr = field(repr=False)

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        self.pixels  # noqa: B018  # it raises where there are none
        return self

    @property
    def png(self) -> bytes:
        """The PNG file."""
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"data is not base64 ({error})") from error

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Values of shape (height, width); decoded anew each time, so keep what you use twice."""
        return np.asarray(decode(self.png, (self.width, self.height), "L"))

    def covers(self, image: Image) -> None:
        """Check that the picture lies on the image pixel for pixel.

        Raises
        ------
        ValueError
            If it has another size.
        """
        if (self.width, self.height) != (image.width, image.height):
            raise ValueError(
                f"the picture is {self.width} x {self.height}, but the image is {image.width} x {image.height}"
            )


def decode(png: bytes, size: tuple[int, int] | None, mode: str | None = None) -> Pillow.Image:
    """Decode a PNG that must have this size (width, height) and this mode of Pillow's, where they are named.

    Raises
    ------
    ValueError
        If it is none, or another one.
    """
    if not png.startswith(_SIGNATURE) or len(png) < _HEADER:
        raise ValueError("the data is no PNG")
    width, height = struct.unpack_from(">II", png, _HEADER - 8)
    if size not in (None, (width, height)):
        raise ValueError(f"the PNG is {width} x {height}, not {size[0]} x {size[1]}")
    if width * height > _MOST_PIXELS:
        raise ValueError(f"the PNG has {width} x {height} pixels, more than the {_MOST_PIXELS} that are decoded")
    try:
        picture = Pillow.open(io.BytesIO(png), formats=("PNG",))
        if mode not in (None, picture.mode):
            raise ValueError(f"the PNG has mode {picture.mode}, not {mode}")
        picture.load()
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"the PNG is broken ({error})") from error
    return picture
