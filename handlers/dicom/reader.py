"""DICOM objects with one frame: film, slice or colour picture.

Answered: every transfer syntax of `handlers.dicom.pixels.SYNTAXES`. Refused, each with its reason: other transfer
syntaxes (415); no pixels, several frames, masks (segmentation objects and 1-bit pixels) and float maps (422).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from handlers.errors import RequestError, UnreadableImageError
from handlers.formats.image import Image, Limits

if TYPE_CHECKING:
    from handlers.dicom.dataset import Object

_ATTRIBUTES: Final = ("Modality", "BodyPartExamined", "ViewPosition")

_EXPLICIT: Final = re.compile(rb"(?:[\x02\x08]\x00..|\x00[\x02\x08]..)(?:UL|UI|CS|OB|SH|LO|DA|TM|US|SQ|UN)", re.DOTALL)
_IMPLICIT: Final = re.compile(rb"[\x02\x08]\x00.\x00.[\x00-\x03]\x00\x00", re.DOTALL)
"""The first element of a data set stands in group 0002 or 0008 and is short."""


def recognises(data: bytes) -> bool:
    """Whether the bytes start as a DICOM file, or as a data set without its preamble (PS3.10 section 7.1)."""
    return data[128:132] == b"DICM" or bool(_EXPLICIT.match(data) or _IMPLICIT.match(data))


def decode(data: bytes, limits: Limits) -> Image:
    """Decode the only frame of a DICOM object to what a viewer would show first."""
    # pydicom is imported with the first DICOM object, not by every worker that never sees one.
    from handlers.dicom import dataset, privacy

    try:
        with privacy.pydicom():
            return _decode(dataset.read(data, limits), limits)
    except RequestError:
        raise
    except dataset.BudgetError as error:
        raise UnreadableImageError("The DICOM object has more elements or fragments than any film.") from error
    except _FAULTS as error:
        # The reader's own words may quote the file: they go no further than the log of the cause.
        raise UnreadableImageError("The DICOM object is broken or cut off; export it anew.") from error


# What pydicom and the codecs raise on broken objects, all but EOFError seen in half a million broken copies:
# conversions of values, absent elements, the end of the bytes, codecs that give up (RuntimeError), sequences nested
# too deep (RecursionError, which is one).
_FAULTS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def _decode(source: Object, limits: Limits) -> Image:
    from handlers.dicom import image_plane, windowing
    from handlers.dicom import pixels as frame

    samples = frame.samples(source, limits)
    pixels = windowing.render(samples, source) if samples.ndim == 2 else frame.color(samples, source)
    height, width = samples.shape[:2]
    return Image(
        pixels=pixels,
        format="dicom",
        width=width,
        height=height,
        spacing=image_plane.spacing(source),
        plane=image_plane.plane(source),
        attributes=_attributes(source),
    )


def _attributes(source: Object) -> dict[str, str]:
    found = {keyword: str(source.get(keyword, "")).strip().upper() for keyword in _ATTRIBUTES}
    return {keyword: text for keyword, text in found.items() if text}
