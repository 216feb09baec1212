"""What the masks of several slices are together: their volume, where the distances are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handlers.formats.image import Plane

Vectors = NDArray[np.float64]

_PARALLEL: Final = 0.9998
"""Least cosine between two slices of one stack: 1 degree apart."""
_APART: Final = 0.01
"""Least distance of two slices in mm; the thinnest published stacks have 0.2."""


@dataclass(frozen=True)
class Slice:
    """What one image adds to a volume.

    Attributes
    ----------
    pixels
        Of its mask.
    sha256
        Of its file.
    spacing
        (row, column) distance of pixels in mm, where known.
    plane
        Place of the slice, where known.
    """

    pixels: int
    sha256: str
    spacing: tuple[float, float] | None
    plane: Plane | None


class _UnknownSpacingError(Exception):
    """Why there is no volume in millilitres."""


def measure(slices: Sequence[Slice | None]) -> dict[str, Any]:
    """Describe the masks of several slices together.

    Parameters
    ----------
    slices
        None stands for an image that got no mask.

    Returns
    -------
    `slices`, `positive_slices` and `pixels`; then `ml`, or the `reason` why it is not known. Each mask counts
    for its own slice's distance: half of the way to either neighbour along the stack's normal where all
    positions are known (PS3.3 C.7.6.2.1.1), else Spacing Between Slices, else Slice Thickness.
    """
    found = [item for item in slices if item is not None]
    document: dict[str, Any] = {
        "slices": len(slices),
        "positive_slices": sum(item.pixels > 0 for item in found),
        "pixels": sum(item.pixels for item in found),
    }
    try:
        if len(found) < len(slices):
            raise _UnknownSpacingError(f"{len(slices) - len(found)} of {len(slices)} slices got no mask")
        return document | {"ml": _millilitres(found)}
    except _UnknownSpacingError as unknown:
        return document | {"reason": f"No volume: {unknown}."}


def _millilitres(slices: list[Slice]) -> float:
    spacings = [item.spacing for item in slices if item.spacing is not None]
    planes = [item.plane for item in slices if item.plane is not None]
    if len(spacings) < len(slices):
        raise _UnknownSpacingError(f"the pixel spacing of {len(slices) - len(spacings)} slices is not known")
    if len({item.sha256 for item in slices}) < len(slices):
        raise _UnknownSpacingError("a slice was sent twice")
    if len(planes) < len(slices):
        raise _UnknownSpacingError(f"the distance of {len(slices) - len(planes)} slices to the next is not known")
    areas = [item.pixels * row * column for item, (row, column) in zip(slices, spacings, strict=True)]
    return float(np.dot(areas, _distances(planes))) / 1000


def _distances(planes: list[Plane]) -> Vectors:
    """Extent of every slice along the stack in mm, in the order given."""
    if len({plane.series for plane in planes}) > 1:
        raise _UnknownSpacingError("the slices are of several series")
    normals = np.array([plane.normal for plane in planes if plane.normal is not None], dtype=np.float64)
    if len(normals) and (normals @ normals[0]).min() < _PARALLEL:
        raise _UnknownSpacingError("the slices are not parallel")
    positions = np.array([plane.position for plane in planes if plane.position is not None], dtype=np.float64)
    if len(planes) > 1 and len(positions) == len(normals) == len(planes):
        return _gaps(positions @ normals[0])
    told = [plane.between or plane.thickness for plane in planes]
    if None in told:
        raise _UnknownSpacingError(f"the distance of {told.count(None)} slices to the next is not known")
    return np.array(told, dtype=np.float64)


def _gaps(places: Vectors) -> Vectors:
    """Half of the way to either neighbour; a slice at an end reaches as far out as it does in."""
    order = np.argsort(places)
    gaps = np.diff(places[order])
    if gaps.min() < _APART:
        raise _UnknownSpacingError("two slices have the same position")
    extents = np.empty_like(places)
    extents[order] = (np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2
    return extents
