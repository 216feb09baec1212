"""/api/models: the models that are served, their cards and sample images."""

import re

from fastapi import APIRouter, Request
from markdown_it import MarkdownIt
from starlette.responses import Response

from gateway import problems, services
from gateway.api.parameters import Name, Version
from gateway.services import AuthenticatedCaller
from radserve.auth.api_keys import Role
from radserve.schema.catalog import Catalog

router = APIRouter(prefix="/api/models", tags=["models"])

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # metadata for catalogues
_PROBLEMS = problems.document(401, 403, 404, 422, 429, 502, 503, 504)


@router.get(
    "",
    operation_id="list_models",
    summary="List the models that can be used",
    responses=problems.document(401, 403, 429, 502, 503, 504),
)
async def models(request: Request, caller: AuthenticatedCaller) -> Catalog:
    """Return every model with its versions, labels, cut-offs and scores on held-out images."""
    caller.require(Role.PREDICT)
    return await services.of(request).backend.catalog()


@router.get(
    "/{name}/{version}/card",
    operation_id="get_card",
    summary="Get the card of a model",
    response_class=Response,
    responses=_PROBLEMS | {200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
async def card(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return data, scores and limits of a version as Markdown, or as HTML if `Accept` requests it."""
    caller.require(Role.PREDICT)
    text = await services.of(request).backend.card(name, version)
    if "text/html" in request.headers.get("accept", ""):
        return Response(_MARKDOWN.render(_FRONT_MATTER.sub("", text)), media_type="text/html")
    return Response(text, media_type="text/markdown")


@router.get(
    "/{name}/{version}/sample",
    operation_id="get_sample",
    summary="Get a sample image of a model",
    response_class=Response,
    responses=_PROBLEMS | {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def sample(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return a synthetic image, which shows no real patient, to try the model with."""
    caller.require(Role.PREDICT)
    data = await services.of(request).backend.sample(name, version)
    return Response(data, media_type="image/png")
