"""Writes results as secondary captures (PS3.3 A.8): a picture that every viewer shows."""

from typing import Any, Final

from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from radserve.dicom.common import NOTICE, Context
from radserve.dicom.picture import draw
from radserve.dicom.remarks import remarks
from radserve.schema.explanation import Explanation
from radserve.schema.percentage import percentage
from radserve.schema.prediction import ImageResult, Prediction
from radserve.schema.segmentation import Segmentation

OUTLINE: Final = (255, 0, 255)
_VIRIDIS: Final = ((68, 1, 84), (59, 81, 139), (33, 144, 141), (92, 200, 99), (253, 231, 37))
"""Five steps of the colours that the server draws with."""


def of_picture(context: Context, result: ImageResult, png: bytes) -> SCImage:
    """Return a picture of the server (the image, with an outline or heat map) with legend and notice."""
    # As on the page: reasons not to rely on a result come before it.
    finding = f"Model output: {_finding(result)}" if result.doubts else _finding(result)
    notes = remarks([result])[1 + len(result.doubts) :]
    lines = [f"{context.algorithm.name} {context.algorithm.version}", *result.doubts, finding, *notes]
    source = context.first.dataset
    identity: dict[str, Any] = {name: source.get(keyword) or None for name, keyword in _IDENTITY.items()}
    item = SCImage(
        pixel_array=draw(png, NOTICE, lines, _legend(result)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),  # replaced below
        study_instance_uid=source.StudyInstanceUID,
        **identity,
        **context.algorithm.equipment,
        **context.arguments("sc"),
    )
    orientation: Any = "" if result.repair else source.get("PatientOrientation", "")
    item.PatientOrientation = orientation
    item.ConversionType = "WSD"
    item.ImageType = ["DERIVED", "SECONDARY"]
    # "NO" only if the file says so: the picture shows what the image shows.
    item.BurnedInAnnotation = source.get("BurnedInAnnotation") or "YES"
    item.DerivationDescription = f"{lines[0]}: {finding}. {NOTICE}"[:1024]
    item.SourceImageSequence = Sequence([_reference(context)])
    for keyword in _COPIED:
        if keyword in source:
            item[keyword] = source[keyword]
    context.complete(item)
    item.DateOfSecondaryCapture, item.TimeOfSecondaryCapture = item.ContentDate, item.ContentTime
    return item


_IDENTITY: Final = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "referring_physician_name": "ReferringPhysicianName",
}
_COPIED: Final = (
    *("IssuerOfPatientID", "IssuerOfAccessionNumberSequence", "StudyDescription", "BodyPartExamined"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)


def _reference(context: Context) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = context.first.reference
    return item


def _finding(result: ImageResult) -> str:
    """Return the result in words."""
    if isinstance(result, Segmentation):
        size = f"{result.area.pixels} pixels" if result.area.mm2 is None else f"{result.area.mm2:.0f} mm2"
        return f"Marked: {result.label}, {size}" if result.positive else "Nothing marked"
    assert isinstance(result, Prediction)  # the only other result of one image
    positive = result.positive_label
    if positive is None or result.threshold is None:
        return f"Most probable: {result.label}, {percentage(result.probability)}"
    relation = "at or above" if result.positive else "below"
    probability = percentage(result.probabilities[positive])
    return f"{positive}: {probability}, {relation} the cut-off of {percentage(result.threshold)}"


def _legend(result: ImageResult) -> list[tuple[str, Any]]:
    if isinstance(result, Explanation):
        return [("low to high influence on the result; not the place of a disease", list(_VIRIDIS))]
    return [(f"outline of: {result.label}", [OUTLINE])] if isinstance(result, Segmentation) and result.positive else []
