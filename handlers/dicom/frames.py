"""Separates the frames of a multi-frame DICOM object: each becomes an object with one frame."""

import zlib
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames, parse_basic_offsets, parse_fragments
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from handlers.dicom import dataset, pixels
from handlers.dicom.budgeted_stream import BudgetedStream, ReadBudget
from handlers.dicom.dataset import FAULTS, DicomObject
from handlers.errors import RequestError, UnreadableImageError, UnusableImageError
from handlers.formats.image import Limits

_FRAMES: Final = Tag("NumberOfFrames")
_GROUPS: Final = "PerFrameFunctionalGroupsSequence"
_PIXELS: Final = Tag("PixelData")
_READS_PER_FRAME: Final = 2000
"""Reads that parsing the functional groups of one frame may take; those of known devices take some hundred."""
_MAX_INFLATED: Final = 4 * 1024 * 1024


def count(head: bytes, budget: ReadBudget) -> int:
    """Return the number of frames that the first bytes of an object declare; 1 if they declare no valid one."""
    try:
        meta, syntax, start = dataset.meta_information(head)
        body = head[start:]
        if syntax == DeflatedExplicitVRLittleEndian:
            body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, _MAX_INFLATED)
        elements = read_dataset(
            BudgetedStream(body, budget),
            is_implicit_VR=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
            stop_when=lambda tag, *_: tag > _FRAMES,
            specific_tags=[Tag("SOPClassUID"), Tag("Modality"), _FRAMES],
        )
        source = DicomObject(elements, syntax, meta)
        return 1 if pixels.is_segmentation(source) else max(1, int(source.get("NumberOfFrames", 1)))
    except (*FAULTS, RequestError, zlib.error):
        return 1  # decoding reports it


@dataclass(frozen=True)
class FrameSource:
    """A parsed multi-frame object; its functional groups are parsed once for all frames."""

    parsed: DicomObject
    groups: list[DicomObject]  # of each frame; empty if the object has none
    coded: list[bytes]  # bytes of each frame; empty if the pixels are not compressed
    length: int  # bytes of an uncompressed frame

    @classmethod
    def open(cls, data: bytes, frames: int, limits: Limits) -> "FrameSource":
        """Parse an object; raises `RequestError` if its parts contradict the number of frames."""
        limits.budget.spend(count=len(data))
        parsed = dataset.read(data, limits, ReadBudget(ReadBudget().left + frames * _READS_PER_FRAME))
        pixels.check_kind(parsed)
        parsed.items("SharedFunctionalGroupsSequence")
        groups = parsed.items(_GROUPS)
        if groups and len(groups) != frames:
            raise UnusableImageError(
                f"The DICOM object has NumberOfFrames {frames}, but {len(groups)} items in {_GROUPS}; "
                "export the object again."
            )
        coded, length = [], 0
        if pixels.is_native(parsed):
            length = _native_length(parsed, frames)
        else:
            coded = _coded_frames(parsed.table("PixelData"), frames)
        return cls(parsed, groups, coded, length)

    def frame(self, number: int) -> DicomObject:
        """Return a frame as an object of its own, whose other elements are those of the multi-frame object."""
        index = number - 1
        original = self.parsed.dataset
        elements: dict[Any, Any] = dict(original.items())
        elements.pop(_FRAMES, None)
        raw: Any = elements[_PIXELS]
        if self.coded:
            elements[_PIXELS] = raw._replace(value=encapsulate([self.coded[index]], has_bot=False))
        else:
            content = self.parsed.table("PixelData")[index * self.length : number * self.length]
            content += b"\0" * (self.length % 2)
            elements[_PIXELS] = raw._replace(value=content, length=len(content))
        if self.groups:
            elements[Tag(_GROUPS)] = DataElement(Tag(_GROUPS), "SQ", Sequence([self.groups[index].dataset]))
        separate = Dataset(elements)
        implicit, little_endian = original.original_encoding
        separate.set_original_encoding(implicit, little_endian, original.original_character_set)
        return DicomObject(separate, self.parsed.syntax, self.parsed.storage_class)


def _native_length(source: DicomObject, frames: int) -> int:
    """Return the bytes of an uncompressed frame; frames follow each other without padding (PS3.5 section 8.1.1)."""
    needed, length = pixels.native_length(source), len(source.table("PixelData"))
    if not frames * needed <= length <= frames * needed + 3:
        raise UnreadableImageError(
            f"The Pixel Data (7FE0,0010) of the DICOM object has {length} bytes, but its NumberOfFrames {frames}, "
            f"Rows, Columns, SamplesPerPixel and BitsAllocated need {frames * needed}; export the object again."
        )
    raw: Any = source.dataset.get_item(_PIXELS)
    if source.syntax == ExplicitVRBigEndian and needed % 2 and raw.VR == "OW":
        raise UnusableImageError(
            "The frames of the DICOM object have an odd number of bytes in big-endian words of 16 bits; send it as "
            "Explicit VR Little Endian."
        )
    return needed


def _coded_frames(content: bytes, frames: int) -> list[bytes]:
    """Return the bytes of each compressed frame (PS3.5 section A.4)."""
    listed = int.from_bytes(content[4:8], "little") // 4  # before the table becomes Python objects
    if listed not in (0, frames):
        raise _unlike(frames, f"the Basic Offset Table of its Pixel Data lists {listed}")
    stream = BudgetedStream(content)
    offsets = parse_basic_offsets(stream)
    start = stream.tell()
    _, positions = parse_fragments(stream)
    if len(positions) < frames:
        raise _unlike(frames, f"its Pixel Data has {len(positions)} fragments")
    places = {position - start for position in positions}
    if offsets and (offsets[0] != 0 or offsets != sorted(set(offsets)) or not places.issuperset(offsets)):
        raise _unlike(frames, "the Basic Offset Table of its Pixel Data does not point to the beginnings of fragments")
    coded = list(generate_frames(BudgetedStream(content), number_of_frames=frames))
    if len(coded) != frames or not all(coded):
        raise _unlike(frames, f"its Pixel Data has {sum(map(bool, coded))} coded ones")
    return coded


def _unlike(frames: int, fault: str) -> UnreadableImageError:
    return UnreadableImageError(f"The DICOM object has NumberOfFrames {frames}, but {fault}; export the object again.")
