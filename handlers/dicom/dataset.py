"""A DICOM object opened with pydicom: of its elements only those that say how to show its pixels and where they lie.

Who was imaged is never parsed, so it can reach no message and no log.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian as ImplicitLittle

from handlers.errors import ContentTooLargeError, UnreadableImageError
from handlers.formats.image import Limits

_KEYWORDS: Final = (
    # what it is
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    # its pixels: PS3.3 C.7.6.3, C.7.6.6
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
    # their gray levels: PS3.3 C.11.1, C.11.2, C.11.6
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    # their distances: PS3.3 10.7
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    # their place in a volume: PS3.3 C.7.6.2
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SpacingBetweenSlices",
    "SliceThickness",
    # and where enhanced objects keep all of these: PS3.3 C.7.6.16
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS: Final = [tag for tag in map(tag_for_keyword, _KEYWORDS) if tag is not None]

_LONGEST: Final = 1024
"""Longest value, in bytes, of what is not a table: a film's have tens."""

_READS: Final = 100_000
"""Most reads while an object is parsed. Each element takes one or two, so this bounds their number;
a film has some hundred elements, an enhanced object some thousand."""


class BudgetError(RuntimeError):
    """A stream was read in more pieces than any film has."""


class Budget(BytesIO):
    """A stream that ends parsing where it has been read too often."""

    left = _READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `BytesIO` does."""
        self.left -= 1
        if self.left < 0:
            raise BudgetError
        return super().read(size)


@dataclass(frozen=True)
class Object:
    """One parsed object and how its pixels are encoded.

    Attributes
    ----------
    syntax
        Transfer Syntax UID; of an object without meta information, the one that its bytes show.
    """

    dataset: Dataset
    syntax: UID

    @property
    def little_endian(self) -> bool:
        """Byte order of the data set; coded pixels have their own."""
        return self.syntax != ExplicitVRBigEndian

    def get(self, keyword: str, default: Any = None) -> Any:
        """Value of a short element, or of the first of its values' list; `default` where it is empty."""
        return value(self.dataset, keyword, default)

    def items(self, keyword: str) -> list[Dataset]:
        """Items of a sequence; an absent one has none."""
        return items(self.dataset, keyword)

    def table(self, keyword: str) -> bytes:
        """Raw bytes of a long element; empty where it is absent."""
        return table(self.dataset, keyword)

    def group(self, keyword: str) -> Dataset:
        """First item of a functional group of the only frame, or, where there is none, the object itself.

        PS3.3 C.7.6.16.1.1 and .2: a group stands in one of the two sequences, not in both.
        """
        for place in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            for item in self.items(place)[:1]:
                for found in items(item, keyword)[:1]:
                    return found
        return self.dataset


def value(dataset: Dataset, keyword: str, default: Any = None) -> Any:
    """See `Object.get`."""
    found = values(dataset, keyword)
    return found[0] if found else default


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of a short element; none where it is absent or empty."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    if tag not in dataset:
        return []
    raw = getattr(dataset.get_item(tag), "value", None)
    if isinstance(raw, bytes | str) and len(raw) > _LONGEST:
        raise UnreadableImageError(
            f"The DICOM attribute {keyword} has {len(raw)} bytes; it takes a few. Export it anew."
        )
    found = dataset[tag].value
    if found is None or (isinstance(found, bytes | str) and not found):
        return []
    return list(found) if isinstance(found, MultiValue | list) else [found]


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """See `Object.items`."""
    found = dataset.get(keyword)
    if found is None:
        return []
    if not isinstance(found, Sequence):
        raise UnreadableImageError(f"The DICOM attribute {keyword} is not a sequence.")
    return list(found)


def table(dataset: Dataset, keyword: str) -> bytes:
    """See `Object.table`."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    raw = getattr(dataset.get_item(tag), "value", None) if tag in dataset else None
    return raw if isinstance(raw, bytes) else b""


def read(data: bytes, limits: Limits) -> Object:
    """Parse an object with or without preamble and meta information (PS3.10 section 7.1)."""
    start = 132 if data[128:132] == b"DICM" else 0
    meta, start = _meta(data, start)
    syntax = UID(meta.get(0x10, b"").rstrip(b"\x00 ").decode("ascii", "replace"))
    body = data[start:]
    if syntax == DeflatedExplicitVRLittleEndian:
        body = _inflated(body, limits)
    elif not syntax:
        syntax = _guessed(body)
    dataset = read_dataset(
        Budget(body),
        is_implicit_VR=syntax == ImplicitLittle,
        is_little_endian=syntax != ExplicitVRBigEndian,
        specific_tags=list(_TAGS),
    )
    return Object(dataset, syntax)


def _meta(data: bytes, start: int) -> tuple[dict[int, bytes], int]:
    """Elements of group 0002, which are always explicit little endian, and where they end."""
    found: dict[int, bytes] = {}
    for element, value_start, end in _meta_elements(data, start):
        found[element] = data[value_start:end]
        start = end
    return found, start


def _meta_elements(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    while data[position : position + 2] == b"\x02\x00" and len(data) >= position + 12:
        element, representation, length = struct.unpack_from("<H2sH", data, position + 2)
        position += 8
        if representation in {b"OB", b"UN", b"OW", b"SQ", b"UT"}:
            (length,) = struct.unpack_from("<I", data, position)
            position += 4
        if position + length > len(data):
            raise UnreadableImageError("The DICOM meta information (group 0002) is cut off.")
        yield element, position, position + length
        position += length


def _inflated(body: bytes, limits: Limits) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5), to no more than an object may have anyway."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(body, limits.bytes + 1)
    except zlib.error as error:
        raise UnreadableImageError("The deflated DICOM data set is broken; send it uncompressed.") from error
    if len(whole) > limits.bytes:
        raise ContentTooLargeError(
            f"The deflated DICOM data set holds more than {limits.bytes} bytes; at most so many are read."
        )
    return whole


def _guessed(body: bytes) -> UID:
    """Find the encoding of a data set without meta information from its first element (PS3.5 section 7.1)."""
    if not body[4:6].isalpha() or not body[4:6].isupper():
        return ImplicitLittle
    return ExplicitVRBigEndian if body[0] == 0 else ExplicitVRLittleEndian
