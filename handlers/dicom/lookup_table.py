"""Look-up tables of DICOM objects: modality, VOI and palette ones have the same make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from handlers.dicom import dataset
from handlers.errors import UnreadableImageError

_MOST: Final = 1 << 16
_BAND: Final = 1 << 18


@dataclass(frozen=True)
class Lut:
    """One table (PS3.3 C.11.1.1 and C.7.6.3.1.5).

    Attributes
    ----------
    entries
        What each input becomes.
    first
        Input that becomes the first entry; what lies outside becomes the nearest.
    bits
        Depth of the entries.
    """

    entries: NDArray[np.uint16]
    first: int
    bits: int

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Look the values up."""
        index = np.rint(values).astype(np.int64) - self.first
        found: NDArray[np.uint16] = self.entries[np.clip(index, 0, len(self.entries) - 1, out=index)]
        return found


def spread(table: NDArray[Any], samples: NDArray[Any], first: int) -> NDArray[Any]:
    """`table[samples - first]`, some rows at a time: NumPy makes eight bytes of every index."""
    out = np.empty(samples.shape, table.dtype)
    step = max(1, _BAND // samples.shape[1])
    for top in range(0, len(samples), step):
        band = slice(top, top + step)
        np.take(table, samples[band].astype(np.intp) - first, out=out[band], mode="clip")
    return out


def read(place: Dataset, prefix: str = "", *, little_endian: bool = True) -> Lut:
    """Read a table from a sequence item, or, with a prefix such as `RedPaletteColorLookupTable`, a palette."""
    descriptor, data = (prefix + "Descriptor", prefix + "Data") if prefix else ("LUTDescriptor", "LUTData")
    numbers = [number for number in dataset.values(place, descriptor) if isinstance(number, int)]
    if len(numbers) != 3:
        raise UnreadableImageError(f"The DICOM attribute {descriptor} does not have 3 values; export the object anew.")
    count, first, bits = numbers[0] % _MOST or _MOST, numbers[1], numbers[2]
    if not 8 <= bits <= 16:
        raise UnreadableImageError(f"The DICOM attribute {descriptor} tells of {bits} bits; it may be 8 to 16.")
    entries = _entries(place, data, count, little_endian=little_endian)
    if len(entries) != count:
        raise UnreadableImageError(
            f"The DICOM attribute {data} has not the {count} entries that {descriptor} tells of."
        )
    return Lut(entries, first, bits)


def _entries(place: Dataset, keyword: str, count: int, *, little_endian: bool) -> NDArray[np.uint16]:
    """Entries as words, or as bytes where the table is only so long."""
    raw = dataset.table(place, keyword)
    kind = np.dtype("u1") if count > 1 and len(raw) - count in {0, 1} else np.dtype("<u2" if little_endian else ">u2")
    usable = min(count, len(raw) // kind.itemsize)
    return np.frombuffer(raw, kind, usable).astype(np.uint16)
