"""A DICOM object with several frames, and one of them; imports no pydicom.

`handlers.dicom.reader` decodes a frame, `handlers.dicom.frames` separates it from the others.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from handlers.errors import RequestError

if TYPE_CHECKING:
    from handlers.dicom.frames import FrameSource


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
