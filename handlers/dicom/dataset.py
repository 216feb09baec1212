"""Parses DICOM objects with pydicom: only the attributes that describe the pixels, their display, place and scope.

Of the patient, only age, birth date and species are parsed; no message and no log contains them. Name and ID are never
parsed.
"""

import functools
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset, read_sequence
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from handlers.dicom.budgeted_stream import BudgetedStream, ReadBudget
from handlers.errors import ContentTooLargeError, MalformedAttributeError, RequestError, UnreadableImageError
from handlers.formats.image import Limits

FAULTS: Final = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions of pydicom and the codecs on damaged objects; all but EOFError observed in half a million damaged copies.
RuntimeError includes RecursionError, of sequences nested too deeply."""

_KEYWORDS: Final = (
    # Kind of object
    "SOPClassUID",
    "Modality",
    # Scope: who and what was imaged (handlers.dicom.statements)
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
    "AcquisitionDateTime",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "StrainDescription",
    "AnatomicalOrientationType",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "Laterality",
    "ImageLaterality",
    "PresentationIntentType",
    "ImageType",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "ProcedureCodeSequence",
    "RequestedProcedureCodeSequence",
    "PerformedProtocolCodeSequence",
    "RequestAttributesSequence",
    "AcquisitionDeviceProcessingDescription",
    "ProtocolName",
    "SeriesDescription",
    # Pixels: PS3.3 C.7.6.3, C.7.6.6
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
    # Gray levels: PS3.3 C.11.1, C.11.2, C.11.6
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    # Pixel spacing: PS3.3 10.7
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    # Image plane: PS3.3 C.7.6.2
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SOPInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SpacingBetweenSlices",
    "SliceThickness",
    # The same of enhanced objects: PS3.3 C.7.6.16
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS: Final = [tag for tag in map(tag_for_keyword, _KEYWORDS) if tag is not None]

_MAX_VALUE_BYTES: Final = 1024
"""Longest value of an attribute other than a table; values of real films have tens of bytes."""


@dataclass(frozen=True)
class DicomObject:
    """A parsed data set, or an item of one of its sequences."""

    dataset: Dataset
    syntax: UID  # transfer syntax; detected from the bytes where the object has no meta information
    storage_class: str = ""  # SOP class of the meta information, which may differ from that of the data set
    budget: ReadBudget = field(default_factory=ReadBudget, repr=False)  # shared by all items of the object

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self.dataset

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the first value of a short attribute; `default` where it is absent or empty."""
        values = self.values(keyword)
        return values[0] if values else default

    def number(self, keyword: str, default: float | None = None) -> float | None:
        """Return the first value of an attribute of decimal numbers; `default` where it is absent or empty."""
        try:
            value = self.get(keyword, default)
            return None if value is None else float(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            # The value is not repeated: the attribute may hold anything.
            raise MalformedAttributeError(
                f"The DICOM attribute {keyword} is not a decimal number, which has a point and no comma (PS3.5 section "
                "6.2); export the object again."
            ) from error

    def values(self, keyword: str) -> list[Any]:
        """Return all values of a short attribute; an empty list where it is absent or empty.

        Rejects a value that is longer than any real one: converting it would take long.
        """
        if keyword not in self:
            return []
        raw = self._raw(keyword)
        if isinstance(raw, bytes | str) and len(raw) > _MAX_VALUE_BYTES:
            raise MalformedAttributeError(
                f"The DICOM attribute {keyword} has {len(raw)} bytes, more than {_MAX_VALUE_BYTES}; "
                "export the object again."
            )
        if isinstance(raw, bytes):
            self.budget.spend(len(raw))
        try:
            value = self.dataset[_tag(keyword)].value
        except FAULTS as error:
            raise MalformedAttributeError(_damaged(keyword)) from error
        if isinstance(value, Sequence):
            raise MalformedAttributeError(_damaged(keyword))
        if isinstance(value, MultiValue | list):
            return list(value)
        return [] if value in (None, "", b"") else [value]

    def items(self, keyword: str) -> list[Self]:
        """Return the items of a sequence; an empty list where it is absent.

        Sequences of defined length are parsed here, at the cost of the object's budget.
        """
        if keyword not in self:
            return []
        element: Any = self.dataset.get_item(_tag(keyword))
        if isinstance(element, RawDataElement):
            if element.VR not in (None, "SQ", "UN"):
                raise MalformedAttributeError(f"The DICOM attribute {keyword} is not a sequence.")
            element = DataElement(element.tag, "SQ", self._parse_items(keyword, element))
            self.dataset[element.tag] = element
        if not isinstance(element.value, Sequence):
            raise MalformedAttributeError(f"The DICOM attribute {keyword} is not a sequence.")
        return [type(self)(item, self.syntax, budget=self.budget) for item in element.value]

    def _parse_items(self, keyword: str, raw: RawDataElement) -> Sequence:
        content = raw.value or b""
        encoding = self.dataset.original_character_set
        stream = BudgetedStream(content, self.budget)
        try:
            return read_sequence(stream, raw.is_implicit_VR, raw.is_little_endian, len(content), encoding)
        except FAULTS as error:
            if isinstance(error.__context__, RequestError):  # pydicom replaces what its stream raises
                raise error.__context__ from None
            raise MalformedAttributeError(_damaged(keyword)) from error

    def texts(self, keyword: str) -> list[str]:
        """Return all values of a short attribute as text without padding."""
        values = self.values(keyword)
        texts = [item.decode("ascii", "ignore") if isinstance(item, bytes) else str(item) for item in values]
        return [text.strip(" \0") for text in texts]

    def table(self, keyword: str) -> bytes:
        """Return the raw bytes of a long attribute; empty where it is absent."""
        raw = self._raw(keyword) if keyword in self else None
        return raw if isinstance(raw, bytes) else b""

    def group(self, keyword: str) -> "DicomObject":
        """Return a functional group of the only frame, or the object itself where it has none.

        PS3.3 C.7.6.16.1.1 and .2: a group is in one of the two sequences, not in both.
        """
        for sequence in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            for item in self.items(sequence)[:1]:
                for group in item.items(keyword)[:1]:
                    return group
        return self

    def _raw(self, keyword: str) -> Any:
        return getattr(self.dataset.get_item(_tag(keyword)), "value", None)


@dataclass(frozen=True)
class LenientObject(DicomObject):
    """A data set whose malformed attributes count as absent: pixels do not depend on them."""

    def number(self, keyword: str, default: float | None = None) -> float | None:
        """Return the first value of an attribute of decimal numbers; `default` where it is absent or malformed."""
        try:
            return super().number(keyword, default)
        except MalformedAttributeError:
            return default

    def values(self, keyword: str) -> list[Any]:
        """Return all values of a short attribute; an empty list where it is absent or malformed."""
        try:
            return super().values(keyword)
        except MalformedAttributeError:
            return []

    def items(self, keyword: str) -> list[Self]:
        """Return the items of a sequence; an empty list where it is absent or malformed."""
        try:
            return super().items(keyword)
        except MalformedAttributeError:
            return []


def _damaged(keyword: str) -> str:
    return f"The DICOM attribute {keyword} is damaged; export the object again."


@functools.cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def read(data: bytes, limits: Limits, budget: ReadBudget | None = None) -> DicomObject:
    """Parse an object, with or without preamble and meta information (PS3.10 section 7.1); any exception may occur."""
    storage_class, syntax, start = meta_information(data)
    body = data[start:]
    if syntax == DeflatedExplicitVRLittleEndian:
        body = _inflate(body, limits)
    budget = budget or ReadBudget()
    dataset = read_dataset(
        BudgetedStream(body, budget),
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
        specific_tags=list(_TAGS),
    )
    return DicomObject(dataset, syntax, storage_class, budget)


def meta_information(data: bytes) -> tuple[str, UID, int]:
    """Return the SOP class of the meta information, the transfer syntax, and the position of the data set."""
    meta, start = _group_2(data, 132 if data[128:132] == b"DICM" else 0)
    storage_class, syntax = (meta.get(tag, b"").rstrip(b"\x00 ").decode("ascii", "replace") for tag in (0x02, 0x10))
    return storage_class, UID(syntax) if syntax else _detect_syntax(data[start : start + 6]), start


def _group_2(data: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Return the elements of group 0002, always explicit little endian, and the position after them."""
    elements: dict[int, bytes] = {}
    while data[position : position + 2] == b"\x02\x00" and len(data) >= position + 12:
        element, representation, length = struct.unpack_from("<H2sH", data, position + 2)
        position += 8
        if representation in {b"OB", b"UN", b"OW", b"SQ", b"UT"}:
            (length,) = struct.unpack_from("<I", data, position)
            position += 4
        if position + length > len(data):
            raise UnreadableImageError("The DICOM meta information (group 0002) is incomplete; export the file again.")
        elements[element] = data[position : position + length]
        position += length
    return elements, position


def _inflate(body: bytes, limits: Limits) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) to at most `limits.bytes`; pydicom would inflate it without limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, limits.bytes + 1)
    except zlib.error as error:
        raise UnreadableImageError("The deflated DICOM data set is damaged; send it uncompressed.") from error
    if len(inflated) > limits.bytes:
        raise ContentTooLargeError(f"The deflated DICOM data set has more than {limits.bytes} bytes, the limit.")
    limits.budget.spend(count=len(inflated))
    return inflated


def _detect_syntax(body: bytes) -> UID:
    """Detect the encoding of a data set without meta information from its first element (PS3.5 section 7.1)."""
    if not body[4:6].isalpha() or not body[4:6].isupper():
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if body[0] == 0 else ExplicitVRLittleEndian
