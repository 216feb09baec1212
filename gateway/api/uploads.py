"""/api/uploads: where to put an image that is too large for a request, and how to take it away again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from gateway import problems, services
from gateway.access import Caller
from gateway.errors import NotFoundError
from gateway.uploads.presigned import Uploads
from radserve.auth.api_keys import Role

router = APIRouter(prefix="/api/uploads", tags=["uploads"])

Asker = Annotated[Caller, Depends(services.caller)]
Key = Annotated[str, Query(alias="object", max_length=1024, description="As POST gave it.")]

_RESPONSES: Final[problems.Documented] = {
    status: problems.DOCUMENTED[status] for status in (401, 403, 404, 429, 502, 503, 504)
}


class Upload(BaseModel):
    """Where to send one file.

    Attributes
    ----------
    object
        Its key, for `{"object": KEY}` in a prediction.
    url, fields
        A form (multipart/form-data) to send there by POST: these fields, then the file as the last, named `file`.
    expires
        Until when.
    max_bytes
        Longest file.
    """

    object: str
    url: str
    fields: dict[str, str]
    expires: datetime
    max_bytes: int


@router.post("", responses=_RESPONSES)
async def offer(request: Request, caller: Asker) -> Upload:
    """Return a form that takes one file to storage; its key then stands for it in a prediction, for a day."""
    form = await _uploads(request, caller).offer(caller)
    return Upload(object=form.key, url=form.url, fields=form.fields, expires=form.expires, max_bytes=form.max_bytes)


@router.delete("", status_code=204, responses=_RESPONSES | {422: problems.DOCUMENTED[422]})
async def delete(request: Request, caller: Asker, key: Key) -> Response:
    """Delete an upload of one's own before its day is over."""
    await _uploads(request, caller).delete(key, caller)
    return Response(status_code=204)


def _uploads(request: Request, caller: Caller) -> Uploads:
    caller.require(Role.PREDICT)
    found = services.of(request).uploads
    if found is None:
        raise NotFoundError("This gateway takes no uploads (RADSERVE_GATEWAY_UPLOADS); send the image itself.")
    return found
