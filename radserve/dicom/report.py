"""Writes results as structured reports: Comprehensive 3D SR with TID 1500 (PS3.16), as IHE AIR requires."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from highdicom.seg import Segmentation as SegmentationObject
from highdicom.sr import (
    Comprehensive3DSR,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    ReferencedSegmentationFrame,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from radserve.dicom import codes as concepts
from radserve.dicom.common import Context
from radserve.dicom.remarks import rejected_slices, remarks
from radserve.dicom.segmentation import finding_label
from radserve.dicom.source import Source
from radserve.schema.prediction import ImageResult, Prediction
from radserve.schema.segmentation import Segmentation, Volume

_PIXELS: Final = Code("{pixels}", "UCUM", "pixels")
_MILLILITRE: Final = Code("ml", "UCUM", "milliliter")
_MAX_COMMENT: Final = 1024
_NO_PLACE: Final = "The region of the measurements is the whole image: it does not say where a finding is."


def of_prediction(context: Context, result: Prediction) -> Comprehensive3DSR:
    """Return the report of a classifier: the decision with probability and cut-off, or all probabilities."""
    positive = result.positive_label
    if positive is None:
        ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
        groups = [_group(context, label, [_percent(codes.DCM.Probability, share)]) for label, share in ranked]
    else:
        assert result.threshold is not None  # a decision has a cut-off
        values = [_percent(codes.DCM.Probability, result.probabilities[positive]), _cut_off(result.threshold)]
        groups = [_group(context, positive, values, _presence(bool(result.positive), certain=not result.doubts))]
    return _report(context, groups, [*_decision(result), _NO_PLACE, *remarks([result])])


def of_masks(
    context: Context, results: tuple[Segmentation, ...], mask: SegmentationObject, volume: Volume | None = None
) -> Comprehensive3DSR:
    """Return the report of a mask, or of the masks and the volume of a series; it refers to their segmentation."""
    label = finding_label(results)
    marked = any(result.positive for result in results)
    certain = not any(result.doubts for result in results) and not rejected_slices(results, volume)
    presence = _presence(marked, certain=certain)
    values = [_volume(volume)] if volume is not None and volume.ml is not None else []
    if len(results) == 1:
        values = [_area(results[0])]
    if results[0].threshold is not None:
        values.append(_cut_off(results[0].threshold))
    region = _region(context, results, mask) if marked else {}
    group = _group(context, label, values, presence, _frame_numbers(context, results), **region)
    return _report(context, [group], remarks(results, volume), [mask])


def _decision(result: Prediction) -> list[str]:
    return [] if result.positive is not None else [f"Most probable: {result.label}."]


def _presence(positive: bool, *, certain: bool) -> QualitativeEvaluation:  # noqa: FBT001 - private
    value = codes.SCT.Present if positive else codes.SCT.Absent
    return QualitativeEvaluation(codes.DCM.PresenceOfProperty, value if certain else codes.DCM.PresenceUndetermined)


def _percent(name: Code, share: float) -> Measurement:
    return Measurement(name=name, value=round(100 * share, 4), unit=codes.UCUM.Percent)


def _cut_off(threshold: float) -> Measurement:
    return _percent(codes.DCM.ThresholdValue, threshold)


def _area(result: Segmentation) -> Measurement:
    area = result.area
    if area.mm2 is None:
        return Measurement(name=codes.SCT.Area, value=area.pixels, unit=_PIXELS)
    return Measurement(name=codes.SCT.Area, value=round(area.mm2, 3), unit=codes.UCUM.SquareMillimeter)


def _volume(volume: Volume) -> Measurement:
    assert volume.ml is not None  # the caller checks
    return Measurement(name=codes.SCT.Volume, value=round(volume.ml, 4), unit=_MILLILITRE)


def _frame_numbers(context: Context, results: Sequence[ImageResult]) -> list[int] | None:
    """Return the numbers of the analysed frames of an object that has several."""
    return [result.image.frame or 1 for result in results] if context.first.frames > 1 else None


def _region(context: Context, results: Sequence[ImageResult], mask: SegmentationObject) -> dict[str, Any]:
    frames = _frame_numbers(context, results)
    images = [SourceImageForSegmentation(*source.reference, frames) for source in context.sources]
    reference: dict[str, Any] = {
        "sop_class_uid": mask.SOPClassUID,
        "sop_instance_uid": mask.SOPInstanceUID,
        "segment_number": 1,
    }
    if len(results) > 1 or frames:
        return {"referenced_segment": ReferencedSegment(source_images=images, **reference)}
    frame = ReferencedSegmentationFrame(frame_number=1, source_image=images[0], **reference)
    # highdicom writes both, but only one of them may be present (PS3.3 table 10-11).
    del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return {"referenced_segment": frame}


def _group(
    context: Context,
    label: str,
    values: list[Measurement],
    presence: QualitativeEvaluation | None = None,
    frames: list[int] | None = None,
    **region: Any,
) -> Any:
    """Return the measurements of a finding: TID 1410 with a mask, 1411 with the masks of a series.

    Without a mask, those of an image have TID 1410 with the whole image as region, because viewers such as OHIF show
    only measurements of a region; those of a series have TID 1501.
    """
    place = concepts.place(context.first.dataset)
    arguments: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(context.uid(f"finding {label}"), label),
        "finding_type": concepts.finding(label),
        "algorithm_id": context.algorithm.template(),
        "finding_sites": None if place is None else [FindingSite(place)],
        "measurements": values,
        "qualitative_evaluations": None if presence is None else [presence],
    }
    match region.get("referenced_segment"):
        case ReferencedSegment():
            return VolumetricROIMeasurementsAndQualitativeEvaluations(**arguments, **region)
        case ReferencedSegmentationFrame():
            return PlanarROIMeasurementsAndQualitativeEvaluations(**arguments, **region)
        case None if len(context.sources) == 1 and not frames:
            return PlanarROIMeasurementsAndQualitativeEvaluations(
                **arguments, referenced_region=_whole_image(context.first)
            )
        case _:
            images = [SourceImageForMeasurementGroup(*source.reference, frames) for source in context.sources]
            return MeasurementsAndQualitativeEvaluations(**arguments, source_images=images)


def _whole_image(source: Source) -> ImageRegion:
    rows, columns = source.shape
    corners = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows], [0, 0]])
    return ImageRegion(GraphicTypeValues.POLYLINE, corners, SourceImageForRegion(*source.reference))


def _report(
    context: Context, groups: list[Any], texts: list[str], evidence: list[SegmentationObject] | None = None
) -> Comprehensive3DSR:
    content = MeasurementReport(
        observation_context=context.algorithm.observer(),
        procedure_reported=concepts.procedure(context.first.dataset),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for text in texts:
        comment = TextContentItem(codes.DCM.Comment, text[:_MAX_COMMENT], RelationshipTypeValues.CONTAINS)
        content[0].ContentSequence.append(comment)
    report = Comprehensive3DSR(
        evidence=[*(source.dataset for source in context.sources), *(evidence or ())],
        content=content[0],
        is_complete=True,
        is_verified=False,
        **context.algorithm.equipment,
        **context.arguments("sr"),
    )
    context.complete(report)
    return report
