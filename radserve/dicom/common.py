"""What all objects of one result have in common: identifiers, series, time and character set."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DA, DT, TM

from radserve.dicom.algorithm import Algorithm
from radserve.dicom.identifiers import derived
from radserve.dicom.kinds import Kind
from radserve.dicom.source import Source, character_set

NOTICE: Final = "For research use only. Not for diagnosis."
_NUMBERS: Final[dict[Kind, int]] = {"sr": 9101, "seg": 9102, "sc": 9103}
_DESCRIPTIONS: Final[dict[Kind, str]] = {"sr": "report", "seg": "segmentation", "sc": "picture"}
_MAX_LO: Final = 64


@dataclass(frozen=True)
class Context:
    """Images of a result (the slices of a series, or one image), its algorithm, and when it was made."""

    sources: tuple[Source, ...]
    algorithm: Algorithm
    time: datetime  # local, without time zone, as other times in the study
    texts: str  # all texts of the result

    @property
    def first(self) -> Source:
        """The image that the patient and study are copied from."""
        return self.sources[0]

    def uid(self, name: str) -> UID:
        """Return the identifier of a part of the result: depends on images and algorithm only."""
        images = sorted((source.reference[1], source.digest) for source in self.sources)
        return derived(name, *self.algorithm.identity, *images)

    def arguments(self, kind: Kind) -> dict[str, Any]:
        """Return the arguments that highdicom's constructors share."""
        source = self.first.dataset
        number = source.get("InstanceNumber")
        description = f"{self.algorithm.name} {_DESCRIPTIONS[kind]} (research)"
        return {
            # One series for all images of a series, so that a viewer shows them as one.
            "series_instance_uid": derived(kind, *self.algorithm.identity, source.SeriesInstanceUID),
            "series_number": _NUMBERS[kind],
            "sop_instance_uid": self.uid(kind),
            "instance_number": max(1, int(number)) if number else 1,
            "series_description": description[:_MAX_LO],
            "specific_character_set": None,  # see `complete`: highdicom rejects some valid ones
        }

    def complete(self, item: Dataset) -> None:
        """Set the time, which highdicom takes from the clock, and the character set."""
        date, time = DA(self.time.date()), TM(self.time.time())
        for keyword in ("InstanceCreation", "Content"):
            setattr(item, f"{keyword}Date", date)
            setattr(item, f"{keyword}Time", time)
        for equipment in item.ContributingEquipmentSequence:  # highdicom itself
            equipment.ContributionDateTime = DT(self.time)
        item.SpecificCharacterSet = character_set(self.first, self.texts)
        if not item.SpecificCharacterSet:
            del item.SpecificCharacterSet
