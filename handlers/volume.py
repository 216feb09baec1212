"""Measures the volume of the masks of several slices, where their distances are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handlers.domain.assessment import Status
from handlers.errors import UnknownVolumeError
from handlers.formats.image import Plane

Vectors = NDArray[np.float64]

_MIN_COSINE: Final = 0.9998
"""Smallest cosine between the normals of two slices of one stack: 1 degree."""
_MIN_DISTANCE: Final = 0.01
"""Smallest distance of two slices in mm; the thinnest published stacks have 0.2."""
_MAX_DISTANCE: Final = 50.0
"""Largest plausible distance of two slices in mm."""
_MAX_STEP: Final = 3.5
"""Largest distance of two slices as a multiple of the usual one: bridges two missing slices, and rounding."""
_MAX_VARIATION: Final = 0.1
"""Largest difference of the distances that slices state of themselves, as a share of the smallest one."""
_MAX_UNLIKE: Final = 0.2
"""Largest share of unlike slices in one series: half of the held-out patients of glioma-unet have 1 to 3, almost only
background."""


@dataclass(frozen=True)
class Slice:
    """One image's part of a volume."""

    pixels: int  # of its mask
    sha256: str  # of its file
    spacing: tuple[float, float] | None  # (row, column) distance of pixels in mm, where known
    plane: Plane | None  # position of the slice, where known
    status: Status | None = None  # compared with the training images; None if it is not
    frame: int | None = None  # of the file, where it has several


def measure(slices: Sequence[Slice | None]) -> dict[str, Any]:
    """Measure the masks of several slices together; None stands for an image without a mask.

    Returns `slices`, `positive_slices` and `pixels`; how many of the masks are of `unusual` and `unlike` slices, where
    all were compared with the training images; then the volume `ml`, or the `reason` why it is unknown. The
    extent of a mask across the slices is half the distance to either neighbour along the stack's normal where all
    positions are known (PS3.3 C.7.6.2.1.1). Where none is, it is the Spacing Between Slices, else the Slice Thickness,
    if all slices state the same.
    """
    masks = [item for item in slices if item is not None]
    document: dict[str, Any] = {
        "slices": len(slices),
        "positive_slices": sum(item.pixels > 0 for item in masks),
        "pixels": sum(item.pixels for item in masks),
    }
    statuses = [item.status for item in masks]
    if masks and None not in statuses:
        document |= {"unusual": statuses.count("unusual"), "unlike": statuses.count("unlike")}
    try:
        if len(masks) < len(slices):
            raise UnknownVolumeError(f"{len(slices) - len(masks)} of {len(slices)} slices have no mask")
        return document | {"ml": _millilitres(masks)}
    except UnknownVolumeError as error:
        return document | {"reason": f"No volume: {error}."}


def accepts_unlike(slices: Sequence[Slice | None]) -> bool:
    """Whether the unlike slices are few slices of one series: its first and last slices show little but background."""
    masks = [item for item in slices if item is not None]
    planes = [item.plane for item in masks if item.plane is not None]
    unlike = sum(item.status == "unlike" for item in masks)
    return 0 < len(planes) == len(masks) and _origin_fault(planes) is None and unlike <= _MAX_UNLIKE * len(slices)


def _millilitres(slices: list[Slice]) -> float:
    spacings = [item.spacing for item in slices if item.spacing is not None]
    planes = [item.plane for item in slices if item.plane is not None]
    if len(spacings) < len(slices):
        raise UnknownVolumeError(f"the pixel spacing of {len(slices) - len(spacings)} slices is unknown")
    if len({(item.sha256, item.frame) for item in slices}) < len(slices):
        raise UnknownVolumeError("a slice was sent twice")
    if len(planes) < len(slices):
        raise UnknownVolumeError(f"the distance of {len(slices) - len(planes)} slices to the next is unknown")
    areas = [item.pixels * row * column for item, (row, column) in zip(slices, spacings, strict=True)]
    return float(np.dot(areas, _distances(planes))) / 1000


def _origin_fault(planes: list[Plane]) -> str | None:
    """Return why slices are not those of one series of one examination; None if they are."""
    if len({plane.series for plane in planes}) > 1:
        return "the slices belong to several series"
    if len({replace(plane.origin, instance=None, frame=None) for plane in planes}) > 1:
        return "the slices belong to several studies or frames of reference"
    return "the slices do not state their series" if planes[0].series is None else None


def _distances(planes: list[Plane]) -> Vectors:
    """Return the extent of every slice along the stack in mm, in the order given."""
    if len(planes) > 1:
        _check_origin(planes)
    normals = np.array([plane.normal for plane in planes if plane.normal is not None], dtype=np.float64)
    if len(normals) and (normals @ normals[0]).min() < _MIN_COSINE:
        raise UnknownVolumeError("the slices are not parallel")
    positions = np.array([plane.position for plane in planes if plane.position is not None], dtype=np.float64)
    if len(planes) == 1 or not len(positions):
        return _stated(planes)
    unplaced = sum(plane.position is None or plane.normal is None for plane in planes)
    if unplaced:
        # Slice Thickness would hide gaps and repeated positions of the others.
        raise UnknownVolumeError(f"the position or orientation of {unplaced} slices is unknown")
    return _extents(positions @ normals[0])


def _check_origin(planes: list[Plane]) -> None:
    if (fault := _origin_fault(planes)) is not None:
        raise UnknownVolumeError(fault)
    instances = [(origin.instance, origin.frame) for origin in (plane.origin for plane in planes) if origin.instance]
    if len(set(instances)) < len(instances):
        raise UnknownVolumeError("a slice was sent twice")


def _stated(planes: list[Plane]) -> Vectors:
    """Return the distances that slices without positions state of themselves."""
    extents = [plane.between or plane.thickness for plane in planes]
    if None in extents:
        raise UnknownVolumeError(f"the distance of {extents.count(None)} slices to the next is unknown")
    lengths = np.array(extents, dtype=np.float64)
    mixed = len({plane.between is None for plane in planes}) > 1
    if mixed or lengths.max() > (1 + _MAX_VARIATION) * lengths.min():
        raise UnknownVolumeError("the slices state different distances")
    _check_plausible(lengths)
    return lengths


def _extents(positions: Vectors) -> Vectors:
    """Return half the distance to either neighbour; a slice at an end is symmetric."""
    order = np.argsort(positions)
    gaps = np.diff(positions[order])
    if gaps.min() < _MIN_DISTANCE:
        raise UnknownVolumeError("two slices have the same position")
    _check_plausible(gaps)
    usual = np.sort(gaps)[(len(gaps) - 1) // 2]
    if gaps.max() > _MAX_STEP * usual:
        raise UnknownVolumeError(f"two neighbouring slices are {gaps.max():.4g} mm apart, the others {usual:.4g} mm")
    extents = np.empty_like(positions)
    extents[order] = (np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2
    return extents


def _check_plausible(distances: Vectors) -> None:
    if distances.max() > _MAX_DISTANCE:
        raise UnknownVolumeError(f"a slice distance of {distances.max():.4g} mm is above {_MAX_DISTANCE:.0f} mm")
