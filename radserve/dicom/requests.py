"""Requests from a server what the DICOM objects of a result need besides it: a heat map, a picture."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Unpack

from pydicom.dataset import Dataset

from radserve.client import Client
from radserve.client.conditions import Conditions
from radserve.client.predictions import Kind as Verb
from radserve.client.predictions import View
from radserve.client.results import Results
from radserve.dicom.kinds import KINDS, Kind
from radserve.dicom.objects import of_image, of_series
from radserve.errors import DicomError, RejectedRequestError
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation, Series


def complete(
    client: Client,
    content: bytes,
    result: Prediction | Segmentation,
    kinds: Collection[Kind] = KINDS,
    **stated: Unpack[Conditions],
) -> dict[Kind, Dataset]:
    """Return the DICOM objects of a result, by kind.

    A classification is sent to `/explanations` once for its heat map, and any result once more for a picture.

    Parameters
    ----------
    content
        DICOM file that was analysed.
    stated
        Conditions of the prediction.

    Raises
    ------
    DicomError
        See `radserve.dicom.of_image`.
    ClientError
        A request fails.
    """
    if isinstance(result, Prediction) and {"seg", "sc"} & set(kinds):
        result = _explained(client, content, result, stated)
    explained = isinstance(result, Explanation)
    of: Verb = "explanations" if explained else "predictions"
    view: View = "overlay" if explained or isinstance(result, Segmentation) else "image"
    picture = None
    if "sc" in kinds:
        name, version = result.model.name, result.model.version
        picture = client.picture(name, content, version, of=of, view=view, size=result.image, **stated)
    return of_image(content, result, picture, kinds)


def of_frames(content: bytes, results: Results, kinds: Collection[Kind] = KINDS) -> dict[Kind, Dataset]:
    """Return the DICOM objects of a file with several frames, by kind; raises DicomError."""
    if results.volume is None:
        raise DicomError("Several frames have no common DICOM result, unless they are slices for a segmentation model.")
    series = Series(
        predictions=tuple(item for item in results if not isinstance(item, Prediction)), volume=results.volume
    )
    return of_series([content] * len(results), series, kinds)


def _explained(client: Client, content: bytes, result: Prediction, stated: Conditions) -> Prediction:
    """Return the result with its heat map, or unchanged if the model has none."""
    try:
        return client.explain(result.model.name, content, result.model.version, **stated)
    except RejectedRequestError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return result
        raise
