"""Decodes DICOM objects: a film, a slice, a colour picture, or one frame of several.

Supported: every transfer syntax of `handlers.dicom.pixels.SYNTAXES`. Rejected: other transfer syntaxes (415); objects
without pixels, masks (segmentation objects and 1-bit pixels) and float maps (422).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from handlers.errors import RequestError, UnreadableImageError
from handlers.formats.image import Image, Limits

if TYPE_CHECKING:
    from handlers.dicom.budgeted_stream import ReadBudget
    from handlers.dicom.dataset import DicomObject
    from handlers.dicom.frames import FrameSource
    from handlers.dicom.multi_frame import Frame, MultiFrame

_Value = TypeVar("_Value")

_EXPLICIT: Final = re.compile(rb"(?:[\x02\x08]\x00..|\x00[\x02\x08]..)(?:UL|UI|CS|OB|SH|LO|DA|TM|US|SQ|UN)", re.DOTALL)
_IMPLICIT: Final = re.compile(rb"[\x02\x08]\x00.\x00.[\x00-\x03]\x00\x00", re.DOTALL)
"""First element of a data set: short, and of group 0002 or 0008."""

_MAX_HEADER: Final = 4 * 1024 * 1024
"""Bytes in which the number of frames must be; what precedes it has some hundred kB at most."""
_NUMBER_OF_FRAMES: Final = (b"\x28\x00\x08\x00", b"\x00\x28\x00\x08")
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"


def recognises(data: bytes) -> bool:
    """Whether the bytes start as a DICOM file, or as a data set without preamble (PS3.10 section 7.1)."""
    return data[128:132] == b"DICM" or bool(_EXPLICIT.match(data) or _IMPLICIT.match(data))


def count_frames(data: bytes, budget: ReadBudget) -> int:
    """Return the number of frames that a file declares; 1 if it is no DICOM object, or the number is unreadable.

    Reads nothing after the number, within a budget that the files of a request share.
    """
    head = data[:_MAX_HEADER]
    if not recognises(head) or not any(tag in head for tag in (*_NUMBER_OF_FRAMES, _DEFLATED)):
        return 1
    from handlers.dicom import frames

    with _silent_pydicom():
        return frames.count(head, budget)


def decode(data: bytes, limits: Limits) -> Image:
    """Decode the only frame of an object to the gray levels or colours that a viewer shows first.

    Raises nothing but `RequestError`, whatever the bytes are.
    """
    # Imported with the first DICOM object: workers that never receive one start faster without pydicom.
    from handlers.dicom import dataset

    return _guarded(lambda: _decode(dataset.read(data, limits), limits))


def decode_frame(frame: Frame, limits: Limits) -> Image:
    """Decode one frame of an object as `decode` would, if it were an object of its own."""
    source = frame.source
    if source.opened is None:
        source.opened = _opened(source, limits)
    if isinstance(source.opened, RequestError):
        raise source.opened
    separate = source.opened.frame(frame.number)
    if frame.number == source.count:
        source.opened = None  # frees the memory of an object whose request has others
    image = _guarded(lambda: _decode(separate, limits))
    assert image.plane is not None
    origin = replace(image.plane.origin, frame=frame.number)
    return replace(image, plane=replace(image.plane, origin=origin), frame=frame.number)


def _opened(source: MultiFrame, limits: Limits) -> FrameSource | RequestError:
    from handlers.dicom.frames import FrameSource

    try:
        return _guarded(lambda: FrameSource.open(source.data, source.count, limits))
    except RequestError as error:
        return error


def _guarded(function: Callable[[], _Value]) -> _Value:
    """Call a function of pydicom without its warnings; raises nothing but `RequestError`."""
    from handlers.dicom import dataset

    try:
        with _silent_pydicom():
            return function()
    except RequestError:
        raise
    except dataset.FAULTS as error:
        if isinstance(error.__context__, RequestError):  # pydicom replaces what its stream raises inside a sequence
            raise error.__context__ from None
        # The message of the cause may quote the file: it stays in the traceback, which only the log shows.
        raise UnreadableImageError("The DICOM object is damaged or incomplete; export it again.") from error


@contextmanager
def _silent_pydicom() -> Iterator[None]:
    """Suppress pydicom's warnings and log records, which quote attribute values: these may identify a patient."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _decode(source: DicomObject, limits: Limits) -> Image:
    from handlers.dicom import image_plane, pixels, statements, windowing

    samples = pixels.read_frame(source, limits)
    height, width = samples.shape[:2]
    plane = image_plane.plane(source)
    return Image(
        pixels=windowing.render(samples, source) if samples.ndim == 2 else pixels.color_image(samples, source),
        format="dicom",
        width=width,
        height=height,
        spacing=image_plane.spacing(source),
        plane=plane,
        statements=tuple(statements.read(source, plane.normal)),
    )
