"""Where the pixels of a DICOM object lie: their distances, and the slice's place in the patient."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from handlers.dicom.dataset import Object, values
from handlers.formats.image import Plane

_FAR: Final = 1000.0
"""Longest distance of pixels or slices in mm that is believed."""
_ROUNDING: Final = 1e-3
"""How far direction cosines may be from perpendicular unit vectors; files round them to four digits or more."""


def spacing(source: Object) -> tuple[float, float] | None:
    """(row, column) distance in mm; the calibrated one first (PS3.3 section 10.7.1.3)."""
    measures = source.group("PixelMeasuresSequence")
    for place, keyword in (
        (measures, "PixelSpacing"),
        (source.dataset, "ImagerPixelSpacing"),
        (source.dataset, "NominalScannedPixelSpacing"),
    ):
        found = values(place, keyword)
        if len(found) == 2:
            row, column = float(found[0]), float(found[1])
            if 0 < row < _FAR and 0 < column < _FAR:
                return row, column
    return None


def plane(source: Object) -> Plane:
    """Read the slice's place (PS3.3 C.7.6.2); a part that is absent or makes no sense is None."""
    measures = source.group("PixelMeasuresSequence")
    series = source.get("SeriesInstanceUID")
    position = _numbers(source.group("PlanePositionSequence"), "ImagePositionPatient", 3)
    return Plane(
        series=None if series is None else str(series),
        position=None if position is None else (position[0], position[1], position[2]),
        normal=_normal(_numbers(source.group("PlaneOrientationSequence"), "ImageOrientationPatient", 6)),
        between=_distance(measures, "SpacingBetweenSlices"),
        thickness=_distance(measures, "SliceThickness"),
    )


def _normal(orientation: list[float] | None) -> tuple[float, float, float] | None:
    """Cross product of the directions of a row and of a column (PS3.3 C.7.6.2.1.1)."""
    if orientation is None:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1)
    if max(*lengths, abs(row @ column)) > _ROUNDING:
        return None
    x, y, z = np.cross(row, column).tolist()
    return x, y, z


def _distance(place: Dataset, keyword: str) -> float | None:
    found = _numbers(place, keyword, 1)
    return found[0] if found is not None and 0 < found[0] < _FAR else None


def _numbers(place: Dataset, keyword: str, count: int) -> list[float] | None:
    """Read values that no pixel depends on: broken ones are as good as none."""
    try:
        found = [float(value) for value in values(place, keyword)]
    except (ValueError, TypeError, ArithmeticError):
        return None
    return found if len(found) == count and np.isfinite(found).all() else None
