"""Problem details (RFC 9457): errors of a request, and rejected images among others."""

from typing import Annotated

from pydantic import Field

from radserve.schema.domain import Domain
from radserve.schema.types import Document, Text


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


class RejectedImage(Document):
    """Problem details in place of the result of one image among several.

    `name` is the file name within a zip; a gateway sets `filename` if the client sent it. `domain` is as in
    `ProblemDetails`.
    """

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
    domain: Domain | None = None
    name: Text | None = None
    filename: Text | None = None
