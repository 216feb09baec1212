"""Reads the pixel spacing of a DICOM object and the position of its slice in the patient."""

from typing import Final

import numpy as np

from handlers.dicom.dataset import DicomObject
from handlers.errors import MalformedAttributeError
from handlers.formats.image import Origin, Plane

_MAX_DISTANCE: Final = 1000.0
"""Longest plausible distance of pixels or slices, in mm."""
_ROUNDING: Final = 1e-3
"""Largest deviation of direction cosines from perpendicular unit vectors; files round them to four digits or more."""


def spacing(source: DicomObject) -> tuple[float, float] | None:
    """Return the (row, column) distance of pixels in mm, the calibrated one first (PS3.3 section 10.7.1.3)."""
    for place, keyword in (
        (source.group("PixelMeasuresSequence"), "PixelSpacing"),
        (source, "ImagerPixelSpacing"),
        (source, "NominalScannedPixelSpacing"),
    ):
        values = _numbers(place, keyword, 2)
        if values is not None:
            row, column = values
            if 0 < row < _MAX_DISTANCE and 0 < column < _MAX_DISTANCE:
                return row, column
    return None


def plane(source: DicomObject) -> Plane:
    """Read the slice's plane (PS3.3 C.7.6.2); absent or implausible parts become None."""
    measures = source.group("PixelMeasuresSequence")
    position = _numbers(source.group("PlanePositionSequence"), "ImagePositionPatient", 3)
    return Plane(
        series=_text(source, "SeriesInstanceUID"),
        position=None if position is None else (position[0], position[1], position[2]),
        normal=_normal(_numbers(source.group("PlaneOrientationSequence"), "ImageOrientationPatient", 6)),
        between=_distance(measures, "SpacingBetweenSlices"),
        thickness=_distance(measures, "SliceThickness"),
        origin=Origin(
            study=_text(source, "StudyInstanceUID"),
            frame_of_reference=_text(source, "FrameOfReferenceUID"),
            instance=_text(source, "SOPInstanceUID"),
        ),
    )


def _text(source: DicomObject, keyword: str) -> str | None:
    """Read an identifier; None where it is malformed, for the pixels do not depend on it."""
    try:
        value = source.get(keyword)
    except MalformedAttributeError:
        return None
    return None if value is None else str(value)


def _normal(orientation: list[float] | None) -> tuple[float, float, float] | None:
    """Return the cross product of the directions of a row and of a column (PS3.3 C.7.6.2.1.1)."""
    if orientation is None:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1)
    if max(*lengths, abs(row @ column)) > _ROUNDING:
        return None
    x, y, z = np.cross(row, column).tolist()
    return x, y, z


def _distance(source: DicomObject, keyword: str) -> float | None:
    numbers = _numbers(source, keyword, 1)
    return numbers[0] if numbers is not None and 0 < numbers[0] < _MAX_DISTANCE else None


def _numbers(source: DicomObject, keyword: str, count: int) -> list[float] | None:
    """Read `count` finite numbers; None where the value is malformed, for the pixels do not depend on it."""
    try:
        numbers = [float(value) for value in source.values(keyword)]
    except (MalformedAttributeError, ValueError, TypeError, ArithmeticError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None
