"""Analyses an image, and turns the result into DICOM objects."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from radserve.client import Client
from radserve.dicom import Kind, of_image
from radserve.schema.prediction import Prediction
from radserve.schema.segmentation import Segmentation


@dataclass(frozen=True)
class Results:
    """DICOM objects of one image; `archive` is the sha256 of the model's archive, or its version if it is unknown."""

    archive: str
    objects: dict[Kind, Dataset]


def analyse(client: Client, model: str, version: str | None, content: bytes, kinds: Sequence[Kind]) -> Results:
    """Send an image to the server, and return its results; raises ClientError or DicomError.

    A classification has a heat map if `kinds` has `seg` or `sc`: both are about where the model looked.
    """
    result: Prediction | Segmentation = client.predict(model, content, version)
    served = result.model.version  # a rollout must not mix versions
    maps = isinstance(result, Prediction) and bool({"seg", "sc"} & set(kinds))
    if maps:
        result = client.explain(model, content, served)
    picture = None
    if "sc" in kinds:
        of = "explanations" if maps else "predictions"
        picture = client.picture(model, content, served, of=of, view="overlay", size=result.image)  # type: ignore[arg-type]
    objects = of_image(content, result, picture, kinds)
    return Results(result.model.sha256 or served, objects)
