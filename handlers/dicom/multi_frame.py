"""Counts the frames of a DICOM object, and describes one of them; imports no pydicom.

`handlers.dicom.reader` decodes a frame, `handlers.dicom.frames` separates it from the others.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from handlers.dicom import reader
from handlers.errors import RequestError

if TYPE_CHECKING:
    from handlers.dicom.budgeted_stream import ReadBudget
    from handlers.dicom.frames import FrameSource

_MAX_HEADER: Final = 4 * 1024 * 1024
"""Bytes in which the number of frames must be; what precedes it has some hundred kB at most."""
_NUMBER_OF_FRAMES: Final = (b"\x28\x00\x08\x00", b"\x00\x28\x00\x08")
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"


@dataclass(eq=False)
class MultiFrame:
    """A DICOM object with several frames; parsed with the first frame that is decoded, for all of them."""

    data: bytes = field(repr=False)
    count: int
    opened: "FrameSource | RequestError | None" = field(default=None, repr=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def frames(self) -> tuple["Frame", ...]:
        """All frames, in the order of the object."""
        return tuple(Frame(self, number) for number in range(1, self.count + 1))


@dataclass(frozen=True)
class Frame:
    """One frame of an object; numbers begin with 1."""

    source: MultiFrame
    number: int


def count(data: bytes, budget: "ReadBudget") -> int:
    """Return the number of frames that a file declares; 1 if it is no DICOM object, or the number is unreadable.

    Reads nothing after the number, within a budget that the files of a request share.
    """
    head = data[:_MAX_HEADER]
    if not reader.recognises(head) or not any(tag in head for tag in (*_NUMBER_OF_FRAMES, _DEFLATED)):
        return 1
    from handlers.dicom import frames

    with reader.silent_pydicom():
        return frames.count(head, budget)
