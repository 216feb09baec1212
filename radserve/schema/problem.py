"""Problem details (RFC 9457): errors of a request, and rejected images among others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from radserve.schema.types import Document, Text


class ProblemDetails(Document):
    """Error response of any endpoint; media type `application/problem+json`.

    Attributes
    ----------
    status
        HTTP status, 400 to 599.
    detail
        What is wrong and what to do about it.
    request_id
        Identifies the request in the gateway's log.
    """

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
    request_id: str | None = None


class RejectedImage(Document):
    """Problem details in place of the result of one image among several.

    Attributes
    ----------
    name
        File name within a zip that was sent.
    filename
        Set by a gateway: name of the file if the client sent one.
    """

    status: Annotated[int, Field(strict=True, ge=400, le=599)]
    title: Text
    detail: Text
    name: Text | None = None
    filename: Text | None = None
