"""Turns results into DICOM objects."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset

from radserve.dicom import capture, report, segmentation
from radserve.dicom.algorithm import Algorithm
from radserve.dicom.common import Context
from radserve.dicom.kinds import KINDS, Kind
from radserve.dicom.source import quiet, read
from radserve.errors import DicomError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import ImageResult, Prediction
from radserve.schema.segmentation import Segmentation, Series

_NO_TEXT: Final = {"mask", "explanation", "name", "filename"}


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
    """
    context = _context([content], [result], time)
    objects: dict[Kind, Dataset] = {}
    with quiet():
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


def of_series(
    contents: Sequence[bytes], series: Series, kinds: Collection[Kind] = KINDS, time: datetime | None = None
) -> dict[Kind, Dataset]:
    """Return the masks of the slices of one series as one `seg`, with their volume in one `sr`; raises DicomError."""
    pairs = [(c, p) for c, p in zip(contents, series.predictions, strict=True) if isinstance(p, Segmentation)]
    if not pairs:
        raise DicomError("No slice could be analysed, so the series has no DICOM result.")
    context = _context([content for content, _ in pairs], [result for _, result in pairs], time)
    if len({source.dataset.SeriesInstanceUID for source in context.sources}) > 1:
        raise DicomError("The slices are of several series; send each series in a request of its own.")
    results = tuple(result for _, result in pairs)
    with quiet():
        mask = segmentation.of_masks(context, results)
        objects: dict[Kind, Dataset] = {"sr": report.of_masks(context, results, mask, series.volume), "seg": mask}
    return {kind: item for kind, item in objects.items() if kind in kinds}


def encode(item: Dataset) -> bytes:
    """Return an object as a DICOM file (PS3.10)."""
    stream = BytesIO()
    with quiet():
        item.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _context(contents: Sequence[bytes], results: Sequence[ImageResult], time: datetime | None) -> Context:
    for result in results:
        if result.image.format != "dicom":
            raise DicomError(f"The image is {result.image.format}, not DICOM, so its result cannot be DICOM either.")
    sources = tuple(read(content) for content in contents)
    for source, result in zip(sources, results, strict=True):
        if source.sha256 != result.image.sha256:
            raise DicomError("The result is not about this image: the SHA-256 differs.")
    made = time or results[0].time or datetime.now(UTC)
    texts = "".join(result.model_dump_json(exclude=_NO_TEXT) for result in results)
    return Context(sources, Algorithm.of(results[0]), made.astimezone().replace(tzinfo=None), texts)
