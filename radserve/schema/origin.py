"""Where an image came from, so that a result can show it."""

from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr

from radserve.schema.types import Document


class WithOrigin(Document):
    """Document about one image; it knows the image if a client sent it, which does not count when it is compared."""

    _origin: Path | bytes | None = PrivateAttr(default=None)

    def showing(self, origin: Path | bytes | None) -> Self:
        """Remember the file of the image, which is read when it is shown, or its bytes."""
        self._origin = origin
        return self

    @property
    def path(self) -> Path | None:
        """Path that the image was read from, if a client read it."""
        return self._origin if isinstance(self._origin, Path) else None

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]  # fields can be mappings

    def _content(self) -> dict[str, Any]:
        return dict(self)
