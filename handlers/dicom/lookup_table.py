"""Lookup tables of DICOM objects: modality, VOI and palette tables share one layout.

pydicom's functions (3.0) are not used: `apply_modality_lut` raises for 10 to 15 bits and for tables of bytes,
`apply_voi` for 9 bits and tables of bytes, and it truncates rescaled values; `apply_color_lut` raises for 9 to 15
bits and for an odd number of bytes, and ignores the byte order.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian

from handlers.dicom.dataset import DicomObject
from handlers.errors import UnreadableImageError

_MAX_ENTRIES: Final = 1 << 16
_BLOCK: Final = 1 << 18
"""Pixels that are processed at a time: NumPy stores each index in eight bytes."""


@dataclass(frozen=True)
class LookupTable:
    """One table (PS3.3 C.11.1.1 and C.7.6.3.1.5); values outside of it get the nearest entry."""

    entries: NDArray[np.uint16]
    first: int  # input value of the first entry
    bits: int  # depth of the entries, 8 to 16

    def levels(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Look the values up and scale full depth to 255."""
        levels: NDArray[np.float64] = self.apply(values) * (255 / (2**self.bits - 1))
        return levels

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Look the values up, rounded to whole numbers."""
        index = np.rint(values).astype(np.int64) - self.first
        output: NDArray[np.uint16] = self.entries[np.clip(index, 0, len(self.entries) - 1, out=index)]
        return output


def spread(table: NDArray[Any], samples: NDArray[Any], first: int) -> NDArray[Any]:
    """Return `table[samples - first]` for samples (rows, columns), computed by blocks of rows to save memory."""
    output = np.empty(samples.shape, table.dtype)
    step = max(1, _BLOCK // samples.shape[1])
    for top in range(0, len(samples), step):
        block = slice(top, top + step)
        np.take(table, samples[block].astype(np.intp) - first, out=output[block], mode="clip")
    return output


def read(source: DicomObject, inputs: tuple[float, float], prefix: str = "") -> LookupTable:
    """Read the table of a sequence item, or, with a prefix such as `RedPaletteColorLookupTable`, a palette.

    `inputs` are the lowest and the highest value to look up.
    """
    descriptor, data = (prefix + "Descriptor", prefix + "Data") if prefix else ("LUTDescriptor", "LUTData")
    numbers = [number for number in source.values(descriptor) if isinstance(number, int)]
    if len(numbers) != 3:
        raise UnreadableImageError(f"The DICOM attribute {descriptor} must have 3 values; export the object again.")
    count, first, bits = numbers[0] % _MAX_ENTRIES or _MAX_ENTRIES, numbers[1], numbers[2]
    if not 8 <= bits <= 16:
        raise UnreadableImageError(f"The DICOM attribute {descriptor} declares {bits} bits; 8 to 16 are valid.")
    raw = source.table(data)
    # PS3.3 C.11.1.1.1: words, or bytes where the data are only as long.
    words = np.dtype(">u2" if source.syntax == ExplicitVRBigEndian else "<u2")
    kind = np.dtype("u1") if count > 1 and len(raw) - count in {0, 1} else words
    if len(raw) < count * kind.itemsize:
        raise UnreadableImageError(
            f"The DICOM attribute {data} has fewer than the {count} entries that {descriptor} declares."
        )
    entries = np.frombuffer(raw, kind, count).astype(np.uint16)
    depth = _depth(entries, bits)
    return LookupTable(np.minimum(entries, 2**depth - 1), _signed_as(inputs, first, count), depth)


def _signed_as(inputs: tuple[float, float], first: int, count: int) -> int:
    """Return the first input value with the sign that fits the inputs.

    It is signed or not as the inputs are (PS3.3 C.11.2.1.1), whatever value representation the object has: writers and
    readers confuse US and SS.
    """
    low, high = inputs
    unsigned = first % (1 << 16)
    options = (first, unsigned, unsigned - (1 << 16))
    return next((option for option in options if option <= high and option + count > low), first)


def _depth(entries: NDArray[np.uint16], declared: int) -> int:
    """Return the bits of the entries; some vendors declare the bits allocated, 16, or too few.

    A table of 16 bits with all entries in the darkest quarter would be unfit for display. Above it, a smaller greatest
    entry is valid. A greatest entry of 4096 is off by one, and means 12 bits.
    """
    needed = max(8, (int(entries.max()) - 1).bit_length())
    return needed if needed > declared or (declared == 16 and needed <= 14) else declared
