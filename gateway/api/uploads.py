"""/api/uploads: uploads of images that are too large for a request."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gateway import problems, services
from gateway.access import Caller
from gateway.errors import NotFoundError
from gateway.services import AuthenticatedCaller
from gateway.uploads.presigned import PresignedForm, UploadStore
from radserve.auth.api_keys import Role

router = APIRouter(prefix="/api/uploads", tags=["uploads"])

Key = Annotated[str, Query(min_length=1, alias="object", max_length=1024, description="`object` of POST /api/uploads.")]

_PROBLEMS: Final = problems.document(401, 403, 404, 429, 502, 503, 504)


@router.post("", operation_id="create_upload", summary="Start an upload to object storage", responses=_PROBLEMS)
async def create(request: Request, caller: AuthenticatedCaller) -> PresignedForm:
    """Return a form (multipart/form-data) that uploads one file; predictions accept its key for a day.

    POST `fields` to `url`, followed by the file in a field named `file`.
    """
    return await _uploads(request, caller).create_form(caller)


@router.delete(
    "",
    operation_id="delete_upload",
    summary="Delete an upload",
    status_code=204,
    responses=_PROBLEMS | problems.document(422),
)
async def delete(request: Request, caller: AuthenticatedCaller, key: Key) -> Response:
    """Delete one of your uploads before it expires."""
    await _uploads(request, caller).delete(key, caller)
    return Response(status_code=204)


def _uploads(request: Request, caller: Caller) -> UploadStore:
    caller.require(Role.PREDICT)
    store = services.of(request).uploads
    if store is None:
        raise NotFoundError("Uploads are disabled (RADSERVE_GATEWAY_UPLOADS); send the image itself.")
    return store
