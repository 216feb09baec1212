"""What a request asks for, to compare it with the response."""

from dataclasses import dataclass

from radserve.schema.domain import Repair
from radserve.schema.prediction import ImageResult


@dataclass(frozen=True)
class RequestedImage:
    """Model, version (None for the default one), SHA-256 of the image (None if unreadable) and repair of a request."""

    name: str
    version: str | None
    sha256: str | None
    repair: Repair | None = None

    def require(self, result: ImageResult) -> None:
        """Raise ValueError unless a result is about this image, and from this model."""
        model = result.model
        if model.name != self.name or self.version not in (None, model.version):
            requested = f"{self.name} {self.version or ''}".rstrip()
            raise ValueError(f"it is from {model.name} {model.version}, but {requested} was requested")
        if result.image.sha256 != self.sha256:
            raise ValueError(
                f"it belongs to another image: image.sha256 is {result.image.sha256}, but that of the sent image is "
                f"{self.sha256}"
            )
        if result.repair != self.repair:
            raise ValueError(
                f"the image was analysed with repair {result.repair}, but repair {self.repair} was requested"
            )
