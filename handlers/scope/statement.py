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

FRONTAL: Final = frozenset({"AP", "PA"})
"""Views that are frontal."""


@dataclass(frozen=True)
class Statement:
    """One attribute, as a term of `handlers.scope.vocabulary` or an age, and the DICOM keyword that states it."""

    attribute: str
    value: str | Age = field(repr=False)  # of a patient: never logged
    source: str = ""

    def agrees(self, other: "Statement") -> bool:
        """Whether two statements about one attribute can both be true."""
        if isinstance(self.value, Age) and isinstance(other.value, Age):
            return self.value.overlaps(other.value)
        values = {self.value, other.value}
        return len(values) == 1 or ("frontal" in values and bool(values & FRONTAL))
