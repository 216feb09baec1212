"""Attributes of DICOM objects, and the scope of a model of chest films."""

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from handlers.scope.scope import AgeRange, Scope

CHEST = Scope(
    age=AgeRange(at_least=1, below=6),
    species=("human",),
    modality=("CR", "DX", "RG"),
    body_part=("chest",),
    view=("AP", "PA", "frontal"),
    orientation=("LF",),
    presentation="for presentation",
    polarity="normal",
)
GOOD: dict[str, Any] = {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "003Y"}


def code(value: str, scheme: str, meaning: str = "", **more: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, content in more.items():
        setattr(item, keyword, content)
    return item


def item(**attributes: Any) -> Sequence:
    content = Dataset()
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return Sequence([content])


def codes(*items: Dataset) -> Sequence:
    return Sequence(list(items))
