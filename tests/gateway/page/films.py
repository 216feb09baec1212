"""Films and heat maps for the viewer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.handlers.images import dicom, film, saved

Pixels = NDArray[Any]
SIDE = 128
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE]


def disc(row: float, column: float, radius: float) -> NDArray[np.bool_]:
    shape: NDArray[np.bool_] = (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2
    return shape


def thorax() -> Pixels:
    """Return a body with dark lungs, air around it, and a side marker in the air."""
    shades = np.full((SIDE, SIDE), 5)
    shades[disc(64, 64, 50)] = 180
    shades[disc(64, 44, 16) | disc(64, 84, 16)] = 12
    shades[4:10, 110:118] = 255
    return shades


FILM = film(196, 280, 4095, np.uint16)
IMAGE = dicom(FILM, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096, BodyPartExamined="CHEST")
SHOWN = saved((FILM // 16).astype(np.uint8), "PNG")


def heat_map(row: int, column: int, height: int = 196, width: int = 280) -> bytes:
    rows, columns = np.mgrid[0:height, 0:width]
    return saved(np.maximum(0, 255 - 3 * np.hypot(rows - row, columns - column)).astype(np.uint8), "PNG")
