"""Header of an image: what rules and queue need of it."""

from datetime import date
from io import BytesIO
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from radserve.dicom.algorithm import MANUFACTURER
from radserve.dicom.source import FAULTS, quiet
from radserve.errors import DicomError

_REQUIRED: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_RESULTS: Final = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "DOC", "REG"})
"""Modalities of objects that are made from images."""
_YEARS: Final = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def read(content: bytes) -> Dataset:
    """Return the header of a DICOM file; raises DicomError if it is damaged or lacks identifiers."""
    try:
        with quiet():
            header = dcmread(BytesIO(content), stop_before_pixels=True)
            return require_identified(header)
    except FAULTS as error:
        raise DicomError("The DICOM file is damaged; export it again.") from error


def require_identified(header: Dataset) -> Dataset:
    """Return a header with valid identifiers; raises DicomError."""
    for keyword in _REQUIRED:
        if not UID(str(header.get(keyword) or "")).is_valid:
            raise DicomError(f"{keyword} is missing or invalid, so no result can refer to the image.")
    return header


def reason_to_ignore(header: Dataset) -> str | None:
    """Return why an object is never analysed, such as a result of RadServe; None for an image."""
    if values(header, "Manufacturer") == (MANUFACTURER.upper(),):
        return "RadServe made it"
    if "Rows" not in header or str(header.get("Modality") or "") in _RESULTS:
        return "it is not an image"
    return None


def values(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute in capitals; empty if it is absent or empty."""
    with quiet():
        value: Any = header.get(keyword)
    if value is None:
        return ()
    items = value if isinstance(value, list | MultiValue) else [value]
    return tuple(text for item in items if (text := str(item).strip().upper()))


def age(header: Dataset) -> float | None:
    """Return the age in years: from PatientAge, or the dates of birth and study; None if it is unknown."""
    stated = "".join(values(header, "PatientAge"))
    if len(stated) == 4 and stated[:3].isdigit() and stated[3] in _YEARS:
        return int(stated[:3]) * _YEARS[stated[3]]
    born, studied = (_date("".join(values(header, keyword))) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or studied is None or studied < born:
        return None
    return (studied - born).days / 365.25


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return None
