"""Problem details (RFC 9457): errors of a request, and rejected images among others."""

from typing import Annotated, Any

from pydantic import Field

from radserve.schema import columns, html
from radserve.schema.domain import Domain
from radserve.schema.origin import WithOrigin
from radserve.schema.types import Document, FrameNumber, Text


class ProblemDetails(Document):
    """Error response of any endpoint (`application/problem+json`); `detail` says what to do about it.

    `request_id` identifies the request in the gateway's log. `domain` is present if the image is unlike the training
    images.
    """

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
    request_id: str | None = None
    domain: Domain | None = None


class RejectedImage(WithOrigin):
    """Problem details in place of the result of one image among several.

    `frame` is its number in a multi-frame DICOM object, `name` the file name within a zip; a gateway sets `filename` if
    the client sent it. `domain` is as in `ProblemDetails`.
    """

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
    domain: Domain | None = None
    frame: FrameNumber | None = None
    name: Text | None = None
    filename: Text | None = None

    def row(self) -> dict[str, Any]:
        """Return the values of a table's columns; see `radserve.schema.columns`."""
        return columns.of_problem(str(self.path) if self.path else None, self.status, self.title, self.detail)

    def _repr_html_(self) -> str:
        return html.rejection(self.title, self.detail, [str(self.path)] if self.path else [])
