"""Coded concepts of findings, places and procedures (docs/dicom-results.md)."""

import hashlib
import re
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

SCHEME: Final = "99RADSERVE"
"""Private coding scheme of labels without a public code."""

TUMOUR: Final = codes.SCT.Neoplasm
_PNEUMONIA: Final = Code("233604007", "SCT", "Pneumonia")
_FINDINGS: Final = {
    "pneumonia": _PNEUMONIA,
    "tumour": TUMOUR,
    "tumor": TUMOUR,
    "glioma": Code("393564001", "SCT", "Glioma"),
    "lesion": codes.SCT.Lesion,
    "mass": codes.SCT.Mass,
    "pulmonary edema": codes.SCT.PulmonaryEdema,
    "normal": codes.SCT.Normal,
}
_MORPHOLOGIES: Final = (TUMOUR, codes.SCT.Lesion, codes.SCT.Mass)
"""Findings of `_FINDINGS` that can be the type of a segment (PS3.16 CID 7159)."""
_PLACES: Final = {
    "BRAIN": codes.SCT.Brain,
    "HEAD": codes.SCT.Head,
    "CHEST": codes.SCT.Chest,
    "LUNG": codes.SCT.Lung,
    "ABDOMEN": codes.SCT.Abdomen,
}
"""BodyPartExamined (PS3.16 annex L) -> code."""
_PROCEDURES: Final = {
    "CR": codes.SCT.PlainRadiography,
    "CT": codes.SCT.ComputedTomography,
    "DX": codes.SCT.PlainRadiography,
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "RG": codes.SCT.PlainRadiography,
}
"""Modality -> code."""
_UNSAFE: Final = re.compile(r"[^A-Z0-9]+")


def finding(label: str) -> Code:
    """Return the concept of a label."""
    known: Code | None = _FINDINGS.get(label.strip().lower())
    return known or Code(_private_value(label), SCHEME, label[:64])


def _private_value(label: str) -> str:
    """Return a code value that differs for each label: its beginning, and 6 digits of its SHA-256."""
    beginning = _UNSAFE.sub("_", label.upper())[:9].strip("_") or "LABEL"
    return f"{beginning}_{hashlib.sha256(label.encode()).hexdigest()[:6].upper()}"


def segment_type(label: str) -> Code:
    """Return the type of a segment (PS3.3 C.8.20.4); a lesion unless the label says more."""
    code = finding(label)
    return code if code in _MORPHOLOGIES or code.scheme_designator == SCHEME else codes.SCT.Lesion


def place(source: Dataset) -> Code | None:
    """Return the body part that a file states."""
    code: Code | None = _PLACES.get(str(source.get("BodyPartExamined", "")).strip().upper())
    return code


def procedure(source: Dataset) -> Code:
    """Return the procedure that made an image."""
    code: Code = _PROCEDURES.get(source.Modality, codes.SCT.ImagingProcedure)
    return code
