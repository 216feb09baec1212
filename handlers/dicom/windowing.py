"""Renders gray DICOM samples for display: modality LUT, VOI LUT or window, polarity.

The order is that of PS3.4 section N.2. Of several windows the first applies, as in viewers.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from handlers.dicom import lookup_table
from handlers.dicom.dataset import DicomObject
from handlers.errors import UnreadableImageError, UnusableImageError
from handlers.formats.intensity import to_pillow

Levels = NDArray[np.float64]
Samples = NDArray[Any]
Transform = Callable[[Levels], Levels]

_MAX_TABLE: Final = 1 << 16
"""Largest range of stored values that is rendered through a table; a transform of every pixel would take longer."""

_WHOLE: Final = 1e-6
"""Largest deviation of a whole level, by rounding in double precision."""


def render(samples: Samples, source: DicomObject) -> Pillow.Image:
    """Convert gray samples, integers (rows, columns) as stored, to the levels that a viewer shows first, in [0, 255].

    The image has mode `L` where every level is a whole number, else `F`.
    """
    padding = _padding(samples, source)
    visible = samples if padding is None else samples[~padding]
    transform = _transform(source, int(visible.min()), int(visible.max()))
    first, last = int(samples.min()), int(samples.max())
    if last - first < _MAX_TABLE:
        table = transform(np.arange(first, last + 1, dtype=np.float64))
        levels = lookup_table.spread(_compact(table), samples, first)
    else:
        levels = transform(samples.astype(np.float64)).astype(np.float32)
    if padding is not None:
        levels[padding] = 0
    return to_pillow(levels)


def _compact(table: Levels) -> NDArray[Any]:
    """Convert whole levels to bytes, others to single precision."""
    whole = np.rint(table)
    return whole.astype(np.uint8) if np.abs(table - whole).max() < _WHOLE else table.astype(np.float32)


def _padding(samples: Samples, source: DicomObject) -> NDArray[np.bool_] | None:
    """Mark the pixels that fill up the rectangle (PS3.3 C.7.5.1.1.2); they are rendered black."""
    value = _stored_padding(source, "PixelPaddingValue")
    if value is None:
        return None
    limit = _stored_padding(source, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    mask: NDArray[np.bool_] = (samples >= low) & (samples <= high)
    return mask if mask.any() and not mask.all() else None


def _stored_padding(source: DicomObject, keyword: str) -> int | None:
    """Return a padding value with the sign of the samples, which it shares (PS3.3 C.7.5.1.1.2); None if they lack it.

    Writers use the wrong sign, of 16 bits or of BitsStored.
    """
    value, stored = source.get(keyword), int(source.get("BitsStored"))
    if not isinstance(value, int):
        return None
    low = -(1 << stored - 1) if source.get("PixelRepresentation", 0) == 1 else 0
    turns: tuple[int, ...] = (0, 1 << 16, -(1 << 16))
    if value % (1 << 16) < 1 << stored:  # without higher bits
        turns += (1 << stored, -(1 << stored))
    return next((value + turn for turn in turns if low <= value + turn < low + (1 << stored)), None)


def _transform(source: DicomObject, low: int, high: int) -> Transform:
    """Return the function from stored values to levels in [0, 255]; `low` and `high` are the range of the image."""
    modality = _modality(source, low, high)
    display = _display(source, modality, low, high)
    # PS3.3 C.7.6.3.1.2, and C.11.6.1.2 for the other way in which DX objects declare it.
    inverse = (
        source.get("PhotometricInterpretation") == "MONOCHROME1" or source.get("PresentationLUTShape") == "INVERSE"
    )

    def levels(stored: Levels) -> Levels:
        output = np.clip(display(modality(stored)), 0, 255)
        return 255 - output if inverse else output

    return levels


def _modality(source: DicomObject, low: int, high: int) -> Transform:
    """Return the function from stored values to the modality's unit (PS3.3 C.11.1)."""
    for item in source.items("ModalityLUTSequence")[:1]:
        table = lookup_table.read(item, (low, high))
        return lambda stored: table.apply(stored).astype(np.float64)
    slope, intercept = _rescale(source)
    if slope == 0:
        raise UnusableImageError("The DICOM object has RescaleSlope 0, which gives every pixel the same value.")
    return lambda stored: stored * slope + intercept


def _rescale(source: DicomObject) -> tuple[float, float]:
    group = source.group("PixelValueTransformationSequence")
    slope, intercept = group.number("RescaleSlope", 1), group.number("RescaleIntercept", 0)
    assert slope is not None
    assert intercept is not None
    if not np.isfinite((slope, intercept)).all():
        raise UnreadableImageError("The DICOM attributes RescaleSlope and RescaleIntercept must be finite numbers.")
    return slope, intercept


def _display(source: DicomObject, modality: Transform, low: int, high: int) -> Transform:
    """Return the VOI transform (PS3.3 C.11.2): a table, else a window, else the range of the image."""
    group = source.group("FrameVOILUTSequence")
    ends = modality(np.array([low, high], dtype=np.float64))
    for item in group.items("VOILUTSequence")[:1]:
        return lookup_table.read(item, (float(ends.min()), float(ends.max()))).levels
    center, width = group.number("WindowCenter"), group.number("WindowWidth")
    if center is not None and width is not None:
        return _window(center, width, str(group.get("VOILUTFunction", "LINEAR")))
    if _is_display_ready(source):
        top = 2 ** int(source.get("BitsStored")) - 1
        return lambda values: values * (255 / top)
    floor, reach = float(ends.min()), float(np.ptp(ends))
    return lambda values: (values - floor) * (255 / reach if reach else 0)


def _is_display_ready(source: DicomObject) -> bool:
    """Whether the samples are 8 unsigned bits without any transform: gray levels already, as in a PNG."""
    plain = "ModalityLUTSequence" not in source and _rescale(source) == (1, 0)
    return plain and int(source.get("BitsStored")) <= 8 and source.get("PixelRepresentation", 0) == 0


def _window(center: float, width: float, function: str) -> Transform:
    """Return the window function of PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 or C.11.2.1.3.2, with output in [0, 255]."""
    function = function.strip().upper()
    if not (np.isfinite(center) and np.isfinite(width)):
        raise UnreadableImageError("The DICOM attributes WindowCenter and WindowWidth must be finite numbers.")
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        raise UnusableImageError("The DICOM attribute VOILUTFunction is not LINEAR, LINEAR_EXACT or SIGMOID.")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise UnusableImageError(f"The DICOM attribute WindowWidth has value {width:g}; it must be 1 or more.")
    window = Dataset()
    # pydicom's output has the range of the stored bits: of eight unsigned ones it is [0, 255].
    window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
    return lambda values: apply_windowing(values, window)
