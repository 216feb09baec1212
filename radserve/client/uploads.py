"""Calls for images that are too large for a request: a gateway hands out forms that upload them to a bucket."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import httpx

from radserve.client import response, validation
from radserve.client.call import Call
from radserve.client.sources import EncodedImage, Source
from radserve.client.transport import trusts_environment
from radserve.errors import InvalidResponseError, RejectedRequestError
from radserve.schema.types import Document

LIMITED_BY: Final = "limit of the gateway's bucket"


@dataclass(frozen=True)
class Upload:
    """Image in the bucket of a gateway; `predict` accepts it in place of the image, for a day or until it is deleted.

    `object` is its key; `sha256` the checksum of the image.
    """

    object: str
    sha256: str


SentImage: TypeAlias = "Source | Upload"
"""One image, or one that is in the bucket already."""


class Form(Document):
    """Form (multipart/form-data) that uploads one file: `fields`, then the file."""

    object: str
    url: str
    fields: dict[str, str]
    expires: datetime
    max_bytes: int


def create_form() -> Call[Form]:
    """Return the call that requests a form."""
    return Call("POST", "api/uploads", None, lambda reply: validation.validate(Form, response.document(reply)))


def delete(upload: Upload) -> Call[None]:
    """Return the call that deletes an upload."""
    return Call("DELETE", "api/uploads", None, require_no_content, {"params": {"object": upload.object}}, repeat=False)


def require_no_content(reply: httpx.Response) -> None:
    """Raise a ClientError unless the status is 204."""
    if reply.status_code != HTTPStatus.NO_CONTENT:
        response.document(reply)  # raises for 4xx and 5xx
        raise InvalidResponseError(f"The gateway answered {reply.status_code} instead of 204; check the URL.")


def settings(form: Form, timeout: httpx.Timeout) -> dict[str, Any]:
    """Return the arguments of an httpx client for the bucket: without the API key, which is not for the bucket."""
    return {"timeout": timeout, "trust_env": trusts_environment(httpx.URL(form.url))}


def submission(form: Form, image: EncodedImage) -> dict[str, Any]:
    """Return the arguments of the request that uploads an image."""
    return {"data": form.fields, "files": {"file": ("image", image.content, "application/octet-stream")}}


def uploaded(reply: httpx.Response, form: Form, image: EncodedImage) -> Upload:
    """Return the upload if the bucket accepted it; raises RejectedRequestError, ServerFailedError."""
    if reply.is_success:
        return Upload(form.object, image.sha256)
    if reply.is_client_error:
        raise RejectedRequestError(
            reply.status_code,
            "Upload rejected",
            f"The bucket rejects the upload; its form allows {form.max_bytes} bytes until {form.expires}.",
        )
    raise response.problem(reply)
