"""Identifies the model that made a result, for the equipment, algorithm and observer of DICOM objects."""

from dataclasses import dataclass
from typing import Any, Final, Self

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    ObservationContext,
    ObserverContext,
)
from pydicom.sr.codedict import codes

from radserve.dicom.identifiers import derived
from radserve.schema.prediction import ImageResult

MANUFACTURER: Final = "RadServe"
WRITER: Final = "4"
"""Format of the objects; a new one gives results new identifiers, as their contents differ."""
_MAX_LO: Final = 64  # characters of a long string (PS3.5 section 6.2)


@dataclass(frozen=True)
class Algorithm:
    """A version of a model; `sha256` is the archive's, or empty if it is unknown. `conditions` change its results."""

    name: str
    version: str
    sha256: str
    conditions: tuple[str, ...]

    @classmethod
    def of(cls, result: ImageResult) -> Self:
        """Return the algorithm of a result."""
        model = result.model
        conditions = [f"{name}={value}" for name, value in sorted((result.assurances or {}).items())]
        if result.profile is not None:
            conditions.append(f"profile={result.profile.sha256}")
        if result.domain is not None:
            conditions.append(f"domain={result.domain.mode}")
        if result.repair is not None:
            conditions.append(f"repair={result.repair}")
        return cls(model.name[:_MAX_LO], model.version, model.sha256 or "", tuple(conditions))

    @property
    def identity(self) -> tuple[str, ...]:
        """What the identifiers of results depend on, besides the image."""
        return (self.sha256 or f"{self.name} {self.version}", *self.conditions, f"writer={WRITER}")

    @property
    def parameters(self) -> list[str]:
        """Archive and conditions as `NAME=VALUE`."""
        return ([f"archive-sha256={self.sha256}"] if self.sha256 else []) + list(self.conditions)

    @property
    def equipment(self) -> dict[str, Any]:
        """Arguments of highdicom's constructors (Enhanced General Equipment, PS3.3 C.7.5.2)."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.name,
            "software_versions": self.version,
            "device_serial_number": self.sha256 or "unknown",
        }

    def sequence(self) -> AlgorithmIdentificationSequence:
        """Return the identification for a segment (PS3.3 table 10-19)."""
        parameters = dict(item.split("=", 1) for item in self.parameters)
        family = codes.DCM.ArtificialIntelligence
        return AlgorithmIdentificationSequence(self.name, family, self.version, MANUFACTURER, parameters or None)

    def template(self) -> AlgorithmIdentification:
        """Return the identification for a report (PS3.16 TID 4019)."""
        return AlgorithmIdentification(self.name, self.version, self.parameters or None)

    def observer(self) -> ObservationContext:
        """Return the device as the observer of a report (PS3.16 TID 1004)."""
        device = DeviceObserverIdentifyingAttributes(
            uid=derived("device", *self.identity[:1]),
            name=f"{self.name} {self.version}",
            manufacturer_name=MANUFACTURER,
            model_name=self.name,
            serial_number=self.sha256 or None,
        )
        return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))
