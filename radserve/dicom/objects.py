"""Turns results into DICOM objects."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from radserve.dicom import capture, report, segmentation
from radserve.dicom.algorithm import Algorithm
from radserve.dicom.common import Context
from radserve.dicom.kinds import KINDS, Kind
from radserve.dicom.source import Source, read, writing
from radserve.errors import DicomError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import ImageResult, Prediction
from radserve.schema.segmentation import Segmentation, Series, Volume

_NO_TEXT: Final = {"mask", "explanation", "name", "filename"}
_IN_COMMON: Final = (
    *("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("Rows", "Columns"),
)
"""Attributes that the slices of a series share; an object has one value of each."""


def of_image(
    content: bytes,
    result: Prediction | Segmentation,
    picture: bytes | None = None,
    kinds: Collection[Kind] = KINDS,
    time: datetime | None = None,
) -> dict[Kind, Dataset]:
    """Return the DICOM objects of one result, by kind.

    A mask gives `sr` and `seg`, a classification `sr`; a classification with a heat map (`Explanation`) a fractional
    `seg` too. Kinds that the result does not have are absent.

    Parameters
    ----------
    content
        DICOM file that was analysed.
    picture
        PNG for `sc`: the view `overlay` of the result, or `image` if it has none.
    time
        When the result was made; that of a gateway's result, or now.

    Raises
    ------
    DicomError
        The image is not a DICOM file, lacks identifiers, or is not the image of the result.
    InvalidResponseError
        `picture` is damaged.
    """
    sources = _sources([content], [result])
    if sources[0].frames > 1:
        raise DicomError(f"The DICOM file has {sources[0].frames} frames; only all of them have a common result.")
    context = _context(sources, [result], time)
    objects: dict[Kind, Dataset] = {}
    with writing():
        if isinstance(result, Segmentation) and {"sr", "seg"} & set(kinds):
            mask = segmentation.of_masks(context, (result,))
            objects = {"sr": report.of_masks(context, (result,), mask), "seg": mask}
        if isinstance(result, Prediction) and "sr" in kinds:
            objects["sr"] = report.of_prediction(context, result)
        if isinstance(result, Explanation) and "seg" in kinds:
            objects["seg"] = segmentation.of_heat_map(context, result)
        if picture is not None and "sc" in kinds:
            objects["sc"] = capture.of_picture(context, result, picture)
    return {kind: item for kind, item in objects.items() if kind in kinds}


def report_uid(content: bytes, result: ImageResult) -> str:
    """Return the identifier that the report of a result has, or would have; raises DicomError."""
    return str(_context(_sources([content], [result]), [result]).uid("sr"))


def of_series(contents: Sequence[bytes | None], series: Series, kinds: Collection[Kind] = KINDS) -> dict[Kind, Dataset]:
    """Return the masks of the slices of one series as one `seg`, with their volume in one `sr`; raises DicomError.

    The slices are files, or frames of one file, whose content is repeated for each. The content of a slice that the
    server rejected may be None.
    """
    pairs = [(c, p) for c, p in zip(contents, series.predictions, strict=True) if isinstance(p, Segmentation)]
    if not pairs:
        raise DicomError("No slice could be analysed, so the series has no DICOM result.")
    results = tuple(result for _, result in pairs)
    sent = [content or b"" for content, _ in pairs]
    if any(result.image.frame for result in results):
        if len({result.image.sha256 for result in results}) > 1:
            raise DicomError("The frames are of several objects; send each multi-frame object in a request of its own.")
        sent = sent[:1]
    objects = of_slices(_sources(sent, results), results, series.volume)
    return {kind: item for kind, item in objects.items() if kind in kinds}


def of_slices(
    sources: tuple[Source, ...], results: tuple[Segmentation, ...], volume: Volume | None = None
) -> dict[Kind, Dataset]:
    """Return the masks of slices of one series as one `seg`, with one `sr` about it; raises DicomError.

    There is one source for each result, or one with the frames of all.
    """
    if len({Algorithm.of(result) for result in results}) > 1:
        raise DicomError("The slices were analysed by different models or under different conditions.")
    require_one_series(sources)
    context = _context(sources, results)
    with writing():
        mask = segmentation.of_masks(context, results, volume)
        return {"sr": report.of_masks(context, results, mask, volume), "seg": mask}


def encode(item: Dataset) -> bytes:
    """Return an object as a DICOM file (PS3.10)."""
    stream = BytesIO()
    with writing():
        item.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _sources(contents: Sequence[bytes], results: Sequence[ImageResult]) -> tuple[Source, ...]:
    for result in results:
        if result.image.format != "dicom":
            raise DicomError(f"The image is {result.image.format}, not DICOM, so its result cannot be DICOM either.")
    return tuple(read(content) for content in contents)


def _context(sources: tuple[Source, ...], results: Sequence[ImageResult], time: datetime | None = None) -> Context:
    several = sources[0].frames > 1
    for source, result in zip(sources * len(results) if several else sources, results, strict=True):
        if (result.image.frame or 1) > source.frames:
            raise DicomError(f"The result is about frame {result.image.frame}, but the file has {source.frames}.")
        if source.sha256 != result.image.sha256:
            raise DicomError("The result is not about this image: the SHA-256 differs.")
    moment = time or results[0].time or datetime.now(UTC)
    texts = "".join(result.model_dump_json(exclude=_NO_TEXT) for result in results)
    return Context(sources, Algorithm.of(results[0]), moment.astimezone().replace(tzinfo=None), texts)


def require_one_series(sources: Sequence[Source]) -> None:
    """Raise DicomError if slices have no common result."""
    if len({source.dataset.SeriesInstanceUID for source in sources}) > 1:
        raise DicomError("The slices are of several series; send each series in a request of its own.")
    frames = sum(source.frames for source in sources)
    if frames > len(sources) > 1:
        raise DicomError("The frames are of several objects; send each multi-frame object in a request of its own.")
    if frames > 1 and not all(source.has_position for source in sources):
        raise DicomError(
            "A slice does not declare its position, so each slice of the series needs its own segmentation."
        )
    for keyword in _IN_COMMON:
        if len({_comparable(source, keyword) for source in sources}) > 1:
            raise DicomError(f"The slices are of one series with different {keyword}; correct it in the files.")
    spacings = [source.spacing for source in sources]
    if any(not np.allclose(spacing, spacings[0], rtol=1e-3, atol=0) for spacing in spacings):
        raise DicomError("The slices are of one series with different PixelSpacing, so they have no common result.")
    if any(not np.allclose(source.orientation, sources[0].orientation, atol=1e-3) for source in sources):
        raise DicomError(
            "The slices are of one series with different ImageOrientationPatient, so they have no common result."
        )
    if frames > 1 and len({position for source in sources for position in source.positions}) < frames:
        raise DicomError("Two slices have the same position, so they have no common result.")
    if len({source.dataset.SOPInstanceUID for source in sources}) < len(sources):
        raise DicomError("Two slices have the same SOPInstanceUID, so they have no common result.")


def _comparable(source: Source, keyword: str) -> str:
    value = str(source.dataset.get(keyword, ""))
    return value.rstrip("^= ") if keyword == "PatientName" else value
