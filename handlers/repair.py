"""Turns or inverts a decoded image as the client asks; nothing is ever repaired without a request."""

from dataclasses import replace
from enum import StrEnum
from typing import Final

from PIL import Image as Pillow

from handlers.errors import BadRequestError
from handlers.formats.image import Image
from handlers.scope.statement import Statement

HEADER: Final = "x-repair"
_MAX_SHOWN: Final = 40
"""Most characters of a value that an error message repeats."""


class Repair(StrEnum):
    """Repair of an image before it is analysed: a clockwise rotation, or the inversion of its intensities."""

    ROTATE_90 = "rotate-90"
    ROTATE_180 = "rotate-180"
    ROTATE_270 = "rotate-270"
    INVERT = "invert"

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return self in (Repair.ROTATE_90, Repair.ROTATE_270)


_QUARTERS: Final = {Repair.ROTATE_90: 1, Repair.ROTATE_180: 2, Repair.ROTATE_270: 3}
_TRANSPOSED: Final = {  # Pillow counts counter-clockwise
    Repair.ROTATE_90: Pillow.Transpose.ROTATE_270,
    Repair.ROTATE_180: Pillow.Transpose.ROTATE_180,
    Repair.ROTATE_270: Pillow.Transpose.ROTATE_90,
}
_OPPOSITE: Final = str.maketrans("LRAPHF", "RLPAFH")
_POLARITIES: Final = {"normal": "inverted", "inverted": "normal"}


def parse(value: object) -> Repair | None:
    """Parse the value of a request, None for no repair; raises `BadRequestError`."""
    if value is None:
        return None
    try:
        return Repair(str(value))
    except ValueError as error:
        shown = f"{str(value)[:_MAX_SHOWN]!r}"
        raise BadRequestError(f"Unknown repair {shown}. Send one of {', '.join(Repair)}, or none.") from error


def merge(first: Repair | None, second: Repair | None) -> Repair | None:
    """Combine the repairs of a header and of a JSON body; raises `BadRequestError` if they differ."""
    if first is not None and second is not None and first != second:
        raise BadRequestError(f"The request asks for two repairs, {first} and {second}; send one.")
    return first or second


def apply(image: Image, repair: Repair | None) -> Image:
    """Return the repaired image, with its spacing and what its file states; rotation loses nothing."""
    if repair is None:
        return image
    statements = tuple(_restate(statement, repair) for statement in image.statements)
    if repair is Repair.INVERT:
        return replace(image, pixels=_inverted(image.pixels), statements=statements)
    # `plane` remains valid where it is used: a rotation in the plane moves no pixel along its normal.
    turned = replace(image, pixels=image.pixels.transpose(_TRANSPOSED[repair]), statements=statements)
    if not repair.swaps_sides:
        return turned
    spacing = None if image.spacing is None else image.spacing[::-1]
    return replace(turned, width=image.height, height=image.width, spacing=spacing)


def _inverted(pixels: Pillow.Image) -> Pillow.Image:
    if pixels.mode == "F":
        return pixels.point(lambda level: level * -1 + 255)
    return pixels.point(lambda level: 255 - level)


def _restate(statement: Statement, repair: Repair) -> Statement:
    """Return what a statement of the file means for the repaired image."""
    if statement.attribute == "polarity" and repair is Repair.INVERT and isinstance(statement.value, str):
        return replace(statement, value=_POLARITIES.get(statement.value, statement.value))
    if statement.attribute == "orientation" and repair in _QUARTERS and isinstance(statement.value, str):
        return replace(statement, value=_turned(statement.value, _QUARTERS[repair]))
    return statement


def _turned(directions: str, quarters: int) -> str:
    """Turn the directions of rows and columns, such as `LF`, clockwise: new rows run against the old columns."""
    if len(directions) != 2:  # `other`
        return directions
    for _ in range(quarters):
        directions = directions[1].translate(_OPPOSITE) + directions[0]
    return directions
