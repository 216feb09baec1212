"""Writes masks and heat maps as DICOM segmentations (PS3.3 A.51), in the geometry of their images."""

from typing import Any, Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as SegmentationObject
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from radserve.dicom import codes as concepts
from radserve.dicom.common import NOTICE, Context
from radserve.dicom.remarks import remarks
from radserve.dicom.source import Source
from radserve.errors import DicomError
from radserve.schema.domain import Repair
from radserve.schema.explanation import Explanation
from radserve.schema.png import GrayPng
from radserve.schema.segmentation import Segmentation, Volume

_QUARTERS: Final[dict[Repair, int]] = {"rotate-90": 1, "rotate-180": 2, "rotate-270": 3}
_COLOUR: Final = (255, 0, 255)  # as on the page
_MAX_ST: Final = 1024  # characters of a short text (PS3.5 section 6.2)


def of_masks(context: Context, results: tuple[Segmentation, ...], volume: Volume | None = None) -> SegmentationObject:
    """Return the masks of the images of the context as one binary segmentation."""
    masks = _masks(context, results)
    label = finding_label(results)
    segment = _segment(context, label, codes.SCT.MorphologicallyAbnormalStructure, concepts.segment_type(label))
    segment.SegmentDescription = " ".join(remarks(results, volume))[:_MAX_ST]
    return _object(context, masks, segment, SegmentationTypeValues.BINARY)


def _masks(context: Context, results: tuple[Segmentation, ...]) -> list[NDArray[np.bool_]]:
    """Return the masks of slices, or of all frames of one object; one that was not analysed has no marks."""
    first = context.first
    if first.frames == 1:
        pairs = zip(context.sources, results, strict=True)
        return [as_sent(result.mask, source, result.repair) > 0 for source, result in pairs]
    masks = [np.zeros(first.shape, dtype=np.bool_)] * first.frames
    for result in results:
        masks[(result.image.frame or 1) - 1] = as_sent(result.mask, first, result.repair) > 0
    if len(results) < first.frames and not any(mask.any() for mask in masks):
        raise DicomError("No frame is marked and some were not analysed, so there is no segmentation of the object.")
    return masks


def of_heat_map(context: Context, result: Explanation) -> SegmentationObject:
    """Return a heat map as a fractional segmentation: relevance from 0 to 255, not a probability."""
    heat = as_sent(result.heat, context.first, result.repair)
    label = f"Areas that influenced: {result.label}"
    segment = _segment(context, label, codes.SCT.SpatialAndRelationalConcept, codes.DCM.Saliency)
    segment.SegmentDescription = " ".join(["Relevance, not probability.", *remarks([result])])[:_MAX_ST]
    return _object(context, [heat], segment, SegmentationTypeValues.FRACTIONAL)


def as_sent(png: GrayPng, source: Source, repair: Repair | None) -> NDArray[np.uint8]:
    """Return pixels in the geometry of the file: a rotation that a client requested is undone."""
    turns = _QUARTERS.get(repair, 0) if repair else 0
    pixels = np.rot90(png.pixels, turns)  # counter-clockwise
    if pixels.shape != source.shape:
        raise DicomError(
            f"The result has {pixels.shape[0]} rows and {pixels.shape[1]} columns, but the DICOM file declares "
            f"{source.shape[0]} and {source.shape[1]}."
        )
    return np.ascontiguousarray(pixels)


def finding_label(results: tuple[Segmentation, ...]) -> str:
    """Return the label of marked areas, whether there are any or not; an earlier server may leave it open."""
    labels = (result.finding or (result.label if result.positive else None) for result in results)
    return next((label for label in labels if label), "lesion")


def _segment(context: Context, label: str, category: Any, kind: Any) -> SegmentDescription:
    place = concepts.place(context.first.dataset)
    lightness = CIELabColor.from_rgb(*_COLOUR)
    return SegmentDescription(
        segment_number=1,
        segment_label=label[:64],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=context.algorithm.sequence(),
        tracking_uid=context.uid(f"finding {label}"),
        tracking_id=label[:64],
        anatomic_regions=None if place is None else [place],
        display_color=lightness,
    )


def _object(
    context: Context, frames: list[NDArray[Any]], segment: SegmentDescription, kind: SegmentationTypeValues
) -> SegmentationObject:
    fractional = kind is SegmentationTypeValues.FRACTIONAL
    stack = np.stack(frames)
    item = SegmentationObject(
        source_images=[source.dataset for source in context.sources],
        # 0 to 1 in steps of 1/255, which highdicom maps to the same steps
        pixel_array=stack.astype(np.float64) / 255 if fractional else stack,
        segmentation_type=kind,
        segment_descriptions=[segment],
        fractional_type="PROBABILITY",
        omit_empty_frames=len(frames) > 1 and bool(stack.any()),
        content_label="HEAT_MAP" if fractional else "MASK",
        content_description=NOTICE,
        **context.algorithm.equipment,
        **context.arguments("seg"),
    )
    item.ContentCreatorName = ""  # type 2
    if not context.first.has_position:
        item.PatientOrientation = context.first.dataset.get("PatientOrientation", "")
    _fix_dimensions(item, str(context.uid("dimensions")))
    context.complete(item)
    return item


def _fix_dimensions(item: SegmentationObject, uid: str) -> None:
    """Replace the random identifier of the dimensions, so that a repeated request gives the same object."""
    for sequence in (item.DimensionOrganizationSequence, item.DimensionIndexSequence):
        for entry in sequence:
            entry.DimensionOrganizationUID = uid
