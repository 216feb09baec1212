"""What a DICOM object, or the client who sends an image, states about the patient and the image."""

from dataclasses import dataclass, field
from typing import Final

from handlers.scope.age import Age

ATTRIBUTES: Final = {
    "age": "age of the patient",
    "species": "species",
    "modality": "modality",
    "body_part": "body part",
    "view": "view",
    "orientation": "orientation",
    "laterality": "laterality",
    "presentation": "presentation intent",
    "polarity": "polarity",
}
"""Stable name of each attribute -> noun for messages."""

_AGREEING: Final = ({"frontal", "AP"}, {"frontal", "PA"}, {"frontal", "coronal"}, {"lateral", "sagittal"})
"""Views of which both can be true of one image."""


@dataclass(frozen=True)
class Statement:
    """One attribute, as a term of `handlers.scope.vocabulary` or an age, and the DICOM keyword that states it."""

    attribute: str
    value: str | Age = field(repr=False)  # of a patient: never logged
    source: str = ""
    proves: bool = True  # False for free text: it can show that an image is out of scope, but not that it is in scope

    def agrees(self, other: "Statement") -> bool:
        """Whether two statements about one attribute can both be true."""
        if isinstance(self.value, Age) and isinstance(other.value, Age):
            return self.value.overlaps(other.value)
        values = {self.value, other.value}
        return len(values) == 1 or values in _AGREEING
