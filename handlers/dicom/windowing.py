"""Stored values of a gray DICOM frame to gray levels for display: modality LUT, VOI LUT, polarity.

The order is that of PS3.4 section N.2. Where an object offers several windows, the first is used, as viewers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.dataset import Dataset

from handlers.dicom import dataset, lookup_table
from handlers.dicom.dataset import Object
from handlers.errors import UnreadableImageError, UnusableImageError
from handlers.formats.intensity import image

Levels = NDArray[np.float64]
Samples = NDArray[Any]

_TABLE: Final = 1 << 16
"""Stored values up to this span are looked up; computing each pixel would cost more."""

_WHOLE: Final = 1e-6


def render(samples: Samples, source: Object) -> Pillow.Image:
    """Gray samples as a viewer first shows them: `L` where every level is a whole number, else `F`."""
    padding = _padding(samples, source)
    low, high = _span(samples, padding)
    voi = _voi(source, low, high)
    first, last = int(samples.min()), int(samples.max())
    if last - first < _TABLE:
        levels = lookup_table.spread(_compact(voi(np.arange(first, last + 1, dtype=np.float64))), samples, first)
    else:
        levels = voi(samples.astype(np.float64)).astype(np.float32)
    if padding is not None:
        levels[padding] = 0
    return image(levels)


def _compact(table: Levels) -> NDArray[Any]:
    """Whole levels as bytes, others as floats."""
    whole = np.rint(table)
    return whole.astype(np.uint8) if np.abs(table - whole).max() < _WHOLE else table.astype(np.float32)


def _padding(samples: Samples, source: Object) -> NDArray[np.bool_] | None:
    """Mark pixels that were added to fill the rectangle (PS3.3 C.7.5.1.1.2); they are shown black."""
    value = source.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = source.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    mask: NDArray[np.bool_] = (samples >= low) & (samples <= high)
    return mask if mask.any() and not mask.all() else None


def _span(samples: Samples, padding: NDArray[np.bool_] | None) -> tuple[int, int]:
    """Least and greatest stored value of the image proper."""
    real = samples if padding is None else samples[~padding]
    return int(real.min()), int(real.max())


def _voi(source: Object, low: int, high: int) -> Callable[[Levels], Levels]:
    """Make the function from stored values to levels in [0, 255], polarity included."""
    modality = _modality(source)
    shown = _display(source, modality, low, high)
    inverse = _is_inverse(source)

    def levels(stored: Levels) -> Levels:
        out = np.clip(shown(modality(stored)), 0, 255)
        return 255 - out if inverse else out

    return levels


def _is_inverse(source: Object) -> bool:
    """Whether low values are bright: PS3.3 C.7.6.3.1.2, and C.11.6.1.2, which says the same of DX in its own way."""
    return bool(
        source.get("PhotometricInterpretation") == "MONOCHROME1" or source.get("PresentationLUTShape") == "INVERSE"
    )


def _modality(source: Object) -> Callable[[Levels], Levels]:
    """Make the function from stored values to the modality's unit (PS3.3 C.11.1)."""
    for item in source.items("ModalityLUTSequence")[:1]:
        table = lookup_table.read(item, little_endian=source.little_endian)
        return lambda stored: table(stored).astype(np.float64)
    group = source.group("PixelValueTransformationSequence")
    slope = _number(group, "RescaleSlope", 1.0)
    intercept = _number(group, "RescaleIntercept", 0.0)
    if slope == 0:
        raise UnusableImageError("The DICOM object has RescaleSlope 0: every pixel would have the same value.")
    return lambda stored: stored * slope + intercept


def _display(source: Object, modality: Callable[[Levels], Levels], low: int, high: int) -> Callable[[Levels], Levels]:
    """Choose the VOI LUT (PS3.3 C.11.2): a table before a window, the object's before none."""
    group = source.group("FrameVOILUTSequence")
    for item in dataset.items(group, "VOILUTSequence")[:1]:
        table = lookup_table.read(item, little_endian=source.little_endian)
        return lambda value: table(value) * (255 / (2**table.bits - 1))
    center, width = dataset.value(group, "WindowCenter"), dataset.value(group, "WindowWidth")
    if center is not None and width is not None:
        return _window(float(center), float(width), str(dataset.value(group, "VOILUTFunction", "LINEAR")))
    if _is_display_ready(source):
        top = 2 ** int(source.get("BitsStored")) - 1
        return lambda value: value * (255 / top)
    ends = modality(np.array([low, high], dtype=np.float64))
    floor, reach = float(ends.min()), float(np.ptp(ends))
    return lambda value: (value - floor) * (255 / reach if reach else 0)


def _is_display_ready(source: Object) -> bool:
    """Whether 8 unsigned bits without any transformation are gray levels already, as in a PNG of the same film."""
    group = source.group("PixelValueTransformationSequence")
    rescaled = (_number(group, "RescaleSlope", 1.0), _number(group, "RescaleIntercept", 0.0)) != (1, 0)
    plain = "ModalityLUTSequence" not in source.dataset and not rescaled
    return plain and int(source.get("BitsStored")) <= 8 and source.get("PixelRepresentation", 0) == 0


def _window(center: float, width: float, function: str) -> Callable[[Levels], Levels]:
    """Make the window functions of PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, to [0, 255]."""
    if not (np.isfinite(center) and np.isfinite(width)):
        raise UnreadableImageError("The DICOM attributes WindowCenter and WindowWidth must be finite numbers.")
    match function.strip().upper():
        case "LINEAR" if width >= 1:
            if width == 1:
                return lambda value: np.where(value <= center - 0.5, 0.0, 255.0)
            return lambda value: ((value - (center - 0.5)) / (width - 1) + 0.5) * 255
        case "LINEAR_EXACT" if width > 0:
            return lambda value: ((value - center) / width + 0.5) * 255
        case "SIGMOID" if width > 0:
            return lambda value: 255 / (1 + np.exp(np.clip(-4 * (value - center) / width, -500, 500)))
        case "LINEAR" | "LINEAR_EXACT" | "SIGMOID":
            raise UnusableImageError(f"The DICOM attribute WindowWidth has value {width:g}; it must be 1 or more.")
    raise UnusableImageError("The DICOM attribute VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID.")


def _number(place: Dataset, keyword: str, default: float) -> float:
    found = float(dataset.value(place, keyword, default))
    if not np.isfinite(found):
        raise UnreadableImageError(f"The DICOM attribute {keyword} is not a finite number.")
    return found
