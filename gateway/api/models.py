"""/api/models: the models that are served, their cards and sample images."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Request
from markdown_it import MarkdownIt
from starlette.responses import Response

from gateway import problems, services
from gateway.services import AuthenticatedCaller
from radserve.auth.api_keys import Role
from radserve.schema.catalog import Catalog

router = APIRouter(prefix="/api/models", tags=["models"])

Name = Annotated[str, Path(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64, examples=["chest-xray-cnn"])]
Version = Annotated[str, Path(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$", max_length=64, examples=["1.0.0"])]

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # metadata for catalogues
_PROBLEMS = problems.document(401, 403, 404, 422, 429, 502, 503, 504)


@router.get("", responses=problems.document(401, 403, 429, 502, 503, 504))
async def models(request: Request, caller: AuthenticatedCaller) -> Catalog:
    """List models, versions, labels and cut-offs."""
    caller.require(Role.PREDICT)
    return await services.of(request).backend.catalog()


@router.get(
    "/{name}/{version}/card",
    response_class=Response,
    responses=_PROBLEMS | {200: {"content": {"text/markdown": {}, "text/html": {}}}},
)
async def card(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return the model card: data, scores, limits. Markdown, or HTML if `Accept` requests it."""
    caller.require(Role.PREDICT)
    text = await services.of(request).backend.card(name, version)
    if "text/html" in request.headers.get("accept", ""):
        return Response(_MARKDOWN.render(_FRONT_MATTER.sub("", text)), media_type="text/html")
    return Response(text, media_type="text/markdown")


@router.get(
    "/{name}/{version}/sample", response_class=Response, responses=_PROBLEMS | {200: {"content": {"image/png": {}}}}
)
async def sample(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return a sample image of the model."""
    caller.require(Role.PREDICT)
    data = await services.of(request).backend.sample(name, version)
    return Response(data, media_type="image/png")
