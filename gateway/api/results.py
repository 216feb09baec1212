"""/api/results: the result history, newest first; `gateway.access.permissions` decides who may see what."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from gateway import history, problems, services
from gateway.access import Caller
from gateway.access.permissions import require_deletable, visible_client
from gateway.errors import NotFoundError
from gateway.history import Details, Filter, History, PageRequest, Result, csv_table, request_pages
from gateway.history.images import MEDIA_TYPES, media_type
from gateway.model_response import PNG
from gateway.services import AuthenticatedCaller
from radserve.schema.history import StoredResult

router = APIRouter(tags=["results"])

ResultId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="`id` of a prediction.")
]

_PROBLEMS: Final = problems.document(400, 401, 403, 404, 422, 429, 503)


@router.get("/api/results", operation_id="list_results", summary="List stored results", responses=_PROBLEMS)
async def results(
    request: Request, caller: AuthenticatedCaller, parameters: Annotated[PageRequest, Query()]
) -> history.Page:
    """Return a page of results, newest first. `limit` counts results, or requests, which a page never splits.

    If few of many results match the filters, a page may have fewer results than `limit`, or none. `next` tells whether
    more may follow.
    """
    store = _history(request, caller)
    query = history.Query(**parameters.model_dump(), client=visible_client(caller))
    page = await (request_pages.find(store, query) if parameters.count == "requests" else store.find(query))
    return page.model_copy(update={"keeps_names": services.of(request).settings.keep_names})


@router.get(
    "/api/results.csv",
    operation_id="export_results",
    summary="Export stored results as CSV",
    response_class=StreamingResponse,
    responses=_PROBLEMS | {200: {"content": {"text/csv": {}}}},
)
async def results_csv(
    request: Request, caller: AuthenticatedCaller, parameters: Annotated[Filter, Query()]
) -> StreamingResponse:
    """Return all results of a filter as CSV (RFC 4180)."""
    store = _history(request, caller)
    query = history.Query(**parameters.model_dump(), client=visible_client(caller), limit=history.MAX_LIMIT)
    lines = _csv_lines(store, query, await store.find(query))
    headers = {"Content-Disposition": 'attachment; filename="results.csv"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


class DetailedResult(StoredResult, Result):
    """Stored result with its prediction document."""


@router.get("/api/results/{result_id}", operation_id="get_result", summary="Get a stored result", responses=_PROBLEMS)
async def result(request: Request, caller: AuthenticatedCaller, result_id: ResultId) -> DetailedResult:
    """Return a result that you may view, with its prediction document, but without its pictures."""
    stored = await _visible_result(request, caller, result_id)
    details = await _history(request, caller).details(result_id)
    images = services.of(request).recorder.images
    has_image = images is not None and await images.has(result_id)
    return DetailedResult.model_validate(stored.model_dump() | _fields(details) | {"has_image": has_image})


def _fields(details: Details | None) -> dict[str, object]:
    if details is None:
        return {}
    prediction = dict(details.prediction)
    volume = prediction.pop("volume", None)
    kind = "mask" if "mask" in prediction else "heat_map"
    return {"prediction": prediction, "overlay": None if details.overlay is None else kind, "volume": volume}


async def _visible_result(request: Request, caller: Caller, result_id: str) -> Result:
    stored = await _history(request, caller).get(result_id)
    if stored is None or visible_client(caller) not in (None, stored.client):  # does not reveal whether it exists
        raise NotFoundError(f"Unknown result {result_id}. It may be deleted, or belong to another client.")
    return stored


@router.get(
    "/api/results/{result_id}/image",
    operation_id="get_result_image",
    summary="Get the image of a stored result",
    response_class=Response,
    responses=_PROBLEMS | {200: {"content": {kind: {} for kind in MEDIA_TYPES}}},
)
async def image(request: Request, caller: AuthenticatedCaller, result_id: ResultId) -> Response:
    """Return the image of a result as it was sent, if images are stored."""
    await _visible_result(request, caller, result_id)
    images = services.of(request).recorder.images
    content = await images.read(result_id) if images is not None else None
    if content is None:
        raise NotFoundError("The image of this result is not stored.")
    headers = {"Content-Disposition": f'attachment; filename="{result_id}"'}
    return Response(content, headers=headers, media_type=media_type(content))


@router.get(
    "/api/results/{result_id}/overlay",
    operation_id="get_result_overlay",
    summary="Get the mask or heat map of a stored result",
    response_class=Response,
    responses=_PROBLEMS | {200: {"content": {PNG: {}}}},
)
async def overlay(request: Request, caller: AuthenticatedCaller, result_id: ResultId) -> Response:
    """Return the mask of a segmentation, or the heat map of a classification, as a gray PNG of the image's size."""
    await _visible_result(request, caller, result_id)
    details = await _history(request, caller).details(result_id)
    if details is None or details.overlay is None:
        raise NotFoundError("No mask or heat map of this result is stored.")
    return Response(details.overlay, media_type=PNG)


@router.delete(
    "/api/results/{result_id}",
    operation_id="delete_result",
    summary="Delete a stored result",
    status_code=204,
    responses=_PROBLEMS,
)
async def delete(request: Request, caller: AuthenticatedCaller, result_id: ResultId) -> Response:
    """Delete a result with its image, mask and heat map; those of other clients require the role `manage`."""
    require_deletable(caller, (await _visible_result(request, caller, result_id)).client)
    await services.of(request).recorder.delete(result_id)
    return Response(status_code=204)


def _history(request: Request, caller: Caller) -> History:
    visible_client(caller)  # 403 comes before 404
    store = services.of(request).recorder.history
    if store is None:
        raise NotFoundError("The result history is disabled (RADSERVE_GATEWAY_HISTORY is 'none').")
    return store


async def _csv_lines(store: History, query: history.Query, page: history.Page) -> AsyncIterator[str]:
    """Yield all pages; an error aborts the connection, so that clients do not take a part for the whole."""
    yield csv_table.header()
    while True:
        yield csv_table.lines(page.results)
        if page.next is None:
            return
        page = await store.find(query.model_copy(update={"cursor": page.next}))
