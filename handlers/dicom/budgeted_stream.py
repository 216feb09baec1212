"""Bounds the work of pydicom on one object, which a small hostile file could make very large."""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from handlers.errors import UnreadableImageError

_MAX_READS: Final = 100_000
"""Most reads per parsed object, of its sequences too. An element takes one or two, so this bounds the number of
elements; a film has some hundred, an enhanced object some thousand."""

_ITEM_READS: Final = 30
"""Cost of a sequence item in reads: pydicom takes 30 microseconds for an empty one."""

_ITEM_TAGS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_CHARACTER_SET_TAGS: Final = (b"\x08\x00\x05\x00", b"\x00\x08\x00\x05")
_HEADER: Final = 8
"""Bytes that pydicom reads of each element or item before its value."""


@dataclass
class ReadBudget:
    """Reads that parsing one object may still take; converting a value costs one for each byte."""

    left: int = _MAX_READS

    def spend(self, cost: int) -> None:
        """Subtract a cost; raises `UnreadableImageError` if too little is left."""
        self.left -= cost
        if self.left < 0:
            raise UnreadableImageError(
                "The DICOM object has more elements or fragments than any film; export it again."
            )


class BudgetedStream(BytesIO):
    """Byte stream that raises `UnreadableImageError` when its budget is spent."""

    def __init__(self, data: bytes, budget: ReadBudget | None = None) -> None:
        super().__init__(data)
        self.budget = budget or ReadBudget()
        self.in_character_set = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO.read` does."""
        data = super().read(size)
        if size == _HEADER:
            tag = data[:4]
            self.budget.spend(_ITEM_READS if tag in _ITEM_TAGS else 1)
            self.in_character_set = tag in _CHARACTER_SET_TAGS
        else:
            # pydicom converts Specific Character Set at once; a byte takes 5 microseconds.
            self.budget.spend(len(data) if self.in_character_set else 1)
        return data
