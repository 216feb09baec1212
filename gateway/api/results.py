"""/api/results: what was answered, newest first; its own to a predicting key, everybody's to a reading one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator
from starlette.responses import Response, StreamingResponse

from gateway import history, problems, services
from gateway.access import Caller
from gateway.errors import NotFoundError
from gateway.history import History, Result
from gateway.history.images import MEDIA_TYPES, media_type
from radserve.auth.api_keys import Role

router = APIRouter(tags=["results"])

Asker = Annotated[Caller, Depends(services.caller)]
Identity = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

_RESPONSES: Final[problems.Documented] = {
    status: problems.DOCUMENTED[status] for status in (400, 401, 403, 404, 422, 429, 503)
}
_COLUMNS: Final = tuple(Result.model_fields)
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class Results(BaseModel):
    """A page of results; `next` is the `cursor` of the page after, null on the last one."""

    results: tuple[Result, ...]
    next: str | None


def _written(value: object) -> object:
    """Take times as RFC 3339 writes them only: 0.5 would be taken for half a second after 1970."""
    if isinstance(value, str) and not _TIME.match(value):
        raise ValueError("a time is written like 2026-03-01T12:30:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written)]


class Filter(BaseModel):
    """Which results; an empty text filters nothing, as a form's empty field means it."""

    model: Annotated[str | None, Query(max_length=64)] = None
    label: Annotated[str | None, Query(max_length=128)] = None
    since: Time | None = None
    until: Time | None = None
    text: Annotated[str | None, Query(max_length=128, description="In the file name, id or image checksum.")] = None

    def query(self, caller: Caller, limit: int, after: str | None = None) -> history.Query:
        """Return the query, for what the caller may see."""
        return history.Query(
            model=self.model or None,
            label=self.label or None,
            since=self.since,
            until=self.until,
            text=self.text or None,
            client=caller.whose,
            after=after,
            limit=limit,
        )


Chosen = Annotated[Filter, Depends()]


@router.get("/api/results", responses=_RESPONSES)
async def results(
    request: Request,
    caller: Asker,
    chosen: Chosen,
    cursor: Annotated[str | None, Query(max_length=256, description="`next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=history.MAX_LIMIT)] = history.DEFAULT_LIMIT,
) -> Results:
    """Return a page of results, newest first.

    Where the filters leave few of many, a page may have fewer results than `limit`, even none: `next` tells whether
    there are more to look at.
    """
    page = await _opened(request, caller).find(chosen.query(caller, limit, cursor))
    return Results(results=page.results, next=page.next)


@router.get(
    "/api/results.csv", response_class=StreamingResponse, responses=_RESPONSES | {200: {"content": {"text/csv": {}}}}
)
async def exported(request: Request, caller: Asker, chosen: Chosen) -> StreamingResponse:
    """Return all results of a filter as CSV (RFC 4180)."""
    found = _opened(request, caller)
    first = await found.find(chosen.query(caller, history.MAX_LIMIT))
    headers = {"Content-Disposition": 'attachment; filename="results.csv"'}
    lines = _lines(found, chosen.query(caller, history.MAX_LIMIT), first)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/api/results/{identity}", responses=_RESPONSES)
async def result(request: Request, caller: Asker, identity: Identity) -> Result:
    """Return one result."""
    return await _owned(_opened(request, caller), identity, caller)


@router.get(
    "/api/results/{identity}/image",
    response_class=Response,
    responses=_RESPONSES | {200: {"content": {kind: {} for kind in MEDIA_TYPES}}},
)
async def image(request: Request, caller: Asker, identity: Identity) -> Response:
    """Return the image that a result answers, as it was sent, where images are kept."""
    await _owned(_opened(request, caller), identity, caller)
    kept = services.of(request).keeping.images
    content = await kept.read(identity) if kept is not None else None
    if content is None:
        raise NotFoundError("The image of this result is not kept.")
    headers = {"Content-Disposition": f'attachment; filename="{identity}"'}
    return Response(content, headers=headers, media_type=media_type(content))


@router.delete("/api/results/{identity}", status_code=204, responses=_RESPONSES)
async def delete(request: Request, caller: Asker, identity: Identity) -> Response:
    """Forget one result, and its image; of others' only with the role `manage`."""
    kept = await _owned(_opened(request, caller), identity, caller)
    if kept.client != caller.name:
        caller.require(Role.MANAGE)
    await services.of(request).keeping.forget(identity)
    return Response(status_code=204)


def _opened(request: Request, caller: Caller) -> History:
    if not caller.roles:
        caller.require(Role.PREDICT)
    found = services.of(request).keeping.history
    if found is None:
        raise NotFoundError("This gateway keeps no results (RADSERVE_GATEWAY_HISTORY is none).")
    return found


async def _owned(found: History, identity: str, caller: Caller) -> Result:
    kept = await found.get(identity)
    if kept is None or caller.whose not in (None, kept.client):
        raise NotFoundError(f"No result has the id {identity}; it may have been deleted, or be another client's.")
    return kept


async def _lines(found: History, query: history.Query, page: history.Page) -> AsyncIterator[str]:
    """Write pages until the last; an error breaks the connection off, so that no part is taken for the whole."""
    yield _csv([_COLUMNS])
    while True:
        yield _csv([[_cell(value) for value in item.model_dump(mode="json").values()] for item in page.results])
        if page.next is None:
            return
        page = await found.find(replace(query, after=page.next))


def _csv(rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def _cell(value: object) -> object:
    """Write truth as JSON does; take from a text what a spreadsheet would run as a formula (a file's name, say)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
