"""What a request asks for, to compare it with the response."""

from dataclasses import dataclass

from radserve.schema.prediction import ImageResult


@dataclass(frozen=True)
class RequestedImage:
    """Model, version (None for the default one) and SHA-256 of the image of a request; None for an unreadable image."""

    name: str
    version: str | None
    sha256: str | None

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
