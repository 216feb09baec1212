"""Reads from a DICOM image what its results may contain: an allow-list of attributes, without pixels."""

import hashlib
import logging
import re
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VM
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import RE_VALID_UID

from radserve.dicom.identifiers import derived
from radserve.errors import DicomError

_IDENTITY: Final = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianName", "StudyDescription"),
)
"""Patient and study (PS3.3 C.7.1.1, C.7.2.1), so that a PACS files the result with its image."""
_DESCRIPTION: Final = (
    *("Modality", "BodyPartExamined", "BurnedInAnnotation", "InstanceNumber", "PatientOrientation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_REQUIRED: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TYPE_2: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes that every object has, if need be empty."""
_VALID: Final[Mapping[str, re.Pattern[str]]] = {
    "PatientBirthDate": re.compile(r"\d{8}"),
    "StudyDate": re.compile(r"\d{8}"),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "PatientSex": re.compile("[MFO]"),
    "InstanceNumber": re.compile(r"[+-]?\d{1,9}"),
    "StudyInstanceUID": re.compile(RE_VALID_UID),
    "SeriesInstanceUID": re.compile(RE_VALID_UID),
    "SOPInstanceUID": re.compile(RE_VALID_UID),
    "FrameOfReferenceUID": re.compile(RE_VALID_UID),
}
"""Values of other forms are left out: the result would be invalid."""
FAULTS: Final = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    struct.error,
)
"""What pydicom raises on a damaged file depends on the damaged bytes."""
_MULTI_FRAME: Final = ("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence")
_SHARED: Final = (
    ("PixelMeasuresSequence", "PixelSpacing", 2),
    ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
)
_MAX_FRAMES: Final = 160  # that a server accepts (`handlers.request_body.BodyLimits`)
_ASCII_SUPERSET: Final = re.compile(r"ISO_IR \d+|GB18030|GBK|ISO 2022 IR \d+|")

logging.getLogger("highdicom").setLevel(logging.CRITICAL)  # its records quote names of patients


class _WarningFilter:
    """Suppresses warnings in all threads while at least one of them needs it: Python's filters are process-wide.

    The level of pydicom's logger applies to its children, a filter does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._filters = ExitStack()
        self._logger = logging.getLogger("pydicom")

    def begin(self) -> None:
        with self._lock:
            if self._users == 0:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._filters.callback(self._logger.setLevel, self._logger.level)
                self._logger.setLevel(logging.CRITICAL)
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._filters.close()


_WARNING_FILTER: Final = _WarningFilter()


@dataclass(frozen=True)
class Source:
    """A DICOM image without its pixels; `dataset` has the attributes of the allow-list only."""

    dataset: Dataset
    sha256: str  # of the file
    digest: str  # of the data set, without the file meta information that each writer adds

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.dataset.Rows), int(self.dataset.Columns)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.dataset.get("NumberOfFrames", 1))

    @property
    def positions(self) -> list[tuple[float, ...]]:
        """Position of each frame in the patient; empty if they are unknown."""
        frames = self.dataset.get("PerFrameFunctionalGroupsSequence") or [self.dataset]
        places = [(frame.get("PlanePositionSequence") or [frame])[0] for frame in frames]
        positions = [_numbers(place, "ImagePositionPatient", 3) for place in places]
        return [tuple(position) for position in positions if position] if self.has_position else []

    @property
    def reference(self) -> tuple[str, str]:
        """SOP class and SOP instance UID."""
        return str(self.dataset.SOPClassUID), str(self.dataset.SOPInstanceUID)

    @property
    def spacing(self) -> tuple[float, float]:
        """Distances of rows and columns in mm; zeros if they are unknown."""
        groups = self.dataset.get("SharedFunctionalGroupsSequence") or [self.dataset]
        measures = groups[0].get("PixelMeasuresSequence") or groups
        rows, columns = _numbers(measures[0], "PixelSpacing", 2) or (0.0, 0.0)
        return rows, columns

    @property
    def orientation(self) -> list[float]:
        """Directions of rows and columns in the patient; zeros if they are unknown."""
        groups = self.dataset.get("SharedFunctionalGroupsSequence") or [self.dataset]
        planes = groups[0].get("PlaneOrientationSequence") or groups
        return _numbers(planes[0], "ImageOrientationPatient", 6) or [0.0] * 6

    @property
    def has_position(self) -> bool:
        """Whether the place of the image in the patient is known."""
        return "FrameOfReferenceUID" in self.dataset


def read(content: bytes) -> Source:
    """Read a DICOM file; raises DicomError if it is damaged, or lacks what its results refer to."""
    with quiet():
        try:
            file = dcmread(BytesIO(content), stop_before_pixels=True, force=True)
            data = content[_meta_length(content) :]
            return Source(_reduced(file), hashlib.sha256(content).hexdigest(), hashlib.sha256(data).hexdigest())
        except FAULTS as error:
            # The message of the cause may quote the file.
            raise DicomError("The DICOM file is damaged; export it again.") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings of pydicom and highdicom: they quote values of attributes, which may identify a patient."""
    _WARNING_FILTER.begin()
    try:
        yield
    finally:
        _WARNING_FILTER.end()


@contextmanager
def writing() -> Iterator[None]:
    """Suppress warnings, and raise DicomError for what highdicom rejects; its own message may quote the file."""
    with quiet():
        try:
            yield
        except ValueError as error:  # of invalid attributes; anything else is not the fault of the file
            raise DicomError("The DICOM file has attributes that its result cannot have; export it again.") from error


def character_set(source: Source, texts: str) -> Any:
    """Return the character set of the image, or UTF-8 if it cannot hold texts of the result."""
    declared = source.dataset.get("SpecificCharacterSet")
    names = list(declared) if isinstance(declared, MultiValue | list) else [declared or ""]
    if texts.isascii() and all(_ASCII_SUPERSET.fullmatch(str(name)) for name in names):
        return declared
    return "ISO_IR 192"


def _meta_length(content: bytes) -> int:
    """Return the length of preamble and file meta information (PS3.10 7.1); 0 if their length is not declared."""
    if content[128:140] != b"DICM\2\0\0\0UL\4\0":
        return 0
    return 144 + int.from_bytes(content[140:144], "little")


def _reduced(file: Dataset) -> Dataset:
    dataset = Dataset()
    for keyword in ("SpecificCharacterSet", *_REQUIRED, *_IDENTITY, *_DESCRIPTION):
        _copy(file, dataset, keyword)
    missing = [keyword for keyword in _REQUIRED if not dataset.get(keyword)]
    if missing:
        raise DicomError(f"The DICOM file has no valid {missing[0]}, so no result can refer to it; export it again.")
    for keyword in _TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    dataset.Modality = dataset.get("Modality") or "OT"
    dataset.Rows, dataset.Columns = int(file.Rows), int(file.Columns)
    frames = int(file.get("NumberOfFrames") or 1)
    if frames > _MAX_FRAMES:
        raise DicomError(f"The DICOM file has {frames} frames; the limit is {_MAX_FRAMES}.")
    _copy_geometry(file, dataset)
    if frames > 1 or "SharedFunctionalGroupsSequence" in file:
        _group_geometry(dataset)
    if frames > 1:
        _add_planes(file, dataset, frames)
    return dataset


def _add_planes(file: Dataset, dataset: Dataset, frames: int) -> None:
    """Add the planes of all frames but the first; the object has no position unless all are known and parallel."""
    dataset.NumberOfFrames = frames
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    is_complete = len(file.get("PerFrameFunctionalGroupsSequence") or ()) == frames
    for index in range(1, frames if is_complete else 1):
        frame = Dataset()
        frame.SeriesInstanceUID = dataset.SeriesInstanceUID
        _copy_geometry(file, frame, index)
        if "FrameOfReferenceUID" not in frame or not _share(frame, dataset):
            break
        _group_geometry(frame)
        groups += frame.PerFrameFunctionalGroupsSequence
    if len(groups) < frames:
        dataset.pop("FrameOfReferenceUID", None)
    dataset.PerFrameFunctionalGroupsSequence = groups


def _share(frame: Dataset, first: Dataset) -> bool:
    """Return whether a frame has the spacing and orientation of the first one, which the frames of a mask share."""
    (shared,) = first.SharedFunctionalGroupsSequence
    return all(
        np.allclose(
            _numbers(frame, keyword, count) or [], _numbers(shared[name][0], keyword, count) or [], rtol=0, atol=1e-3
        )
        for name, keyword, count in _SHARED
        if name in shared
    )


def _copy(file: Dataset, dataset: Dataset, keyword: str) -> None:
    """Copy an attribute unless it is damaged or has an invalid form."""
    try:
        value = file.get(keyword)
        pattern = _VALID.get(keyword)
        if isinstance(value, MultiValue) and dictionary_VM(keyword) == "1":
            return
        if value is not None and (pattern is None or pattern.fullmatch(str(value))):
            setattr(dataset, keyword, value)
    except FAULTS:
        return


def _copy_geometry(file: Dataset, dataset: Dataset, index: int = 0) -> None:
    """Copy the image plane (PS3.3 C.7.6.2) of a frame if it is complete, and else the distance of pixels alone."""
    measures, position, orientation = (_group(file, keyword, index) for keyword in _MULTI_FRAME)
    spacing = _numbers(measures, "PixelSpacing", 2)
    place = _numbers(position, "ImagePositionPatient", 3)
    directions = _numbers(orientation, "ImageOrientationPatient", 6)
    if spacing and place and directions:
        # Without a frame of reference, positions are comparable within a series.
        _copy(file, dataset, "FrameOfReferenceUID")
        if not dataset.get("FrameOfReferenceUID"):
            dataset.FrameOfReferenceUID = derived("frame", file.SeriesInstanceUID)
        dataset.PositionReferenceIndicator = file.get("PositionReferenceIndicator") or ""
        dataset.PixelSpacing, dataset.ImagePositionPatient = spacing, place
        dataset.ImageOrientationPatient = directions
        dataset.SliceThickness = None  # highdicom reads it, and accepts that it is unknown
        for keyword in ("SliceThickness", "SpacingBetweenSlices"):
            number = _numbers(measures, keyword, 1)
            if number:
                setattr(dataset, keyword, number[0])
    else:
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            spacing = _numbers(file, keyword, 2)
            if spacing:
                setattr(dataset, keyword, spacing)


def _group_geometry(dataset: Dataset) -> None:
    """Move the image plane into functional groups, as in the object with functional groups that it is from."""
    shared, frame = Dataset(), Dataset()
    for item, name, keywords in (
        (shared, "PixelMeasuresSequence", ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")),
        (shared, "PlaneOrientationSequence", ("ImageOrientationPatient",)),
        (frame, "PlanePositionSequence", ("ImagePositionPatient",)),
    ):
        group = Dataset()
        for keyword in keywords:
            if keyword in dataset:
                group[keyword] = dataset[keyword]
                del dataset[keyword]
        if len(group):
            setattr(item, name, [group])
    dataset.NumberOfFrames = 1
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], [frame]


def _group(file: Dataset, keyword: str, index: int) -> Dataset:
    """Return a functional group of a frame (PS3.3 C.7.6.16), or the object itself if it has none."""
    for name, place in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        items = file.get(name) or ()  # a copy for each frame would take minutes
        groups = items[place].get(keyword) if place < len(items) else None
        if groups:
            group: Dataset = groups[0]
            return group
    return file


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float] | None:
    try:
        value = dataset.get(keyword)
        numbers = [float(item) for item in (value if isinstance(value, MultiValue) else [value])]
    except FAULTS:
        return None
    return numbers if len(numbers) == count else None
