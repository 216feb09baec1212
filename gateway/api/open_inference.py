"""/v2: the Open Inference Protocol (docs/open-inference.md)."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from gateway import model_response, problems, services
from gateway.access import Caller
from gateway.api import examples, inference
from gateway.api.inference import Target
from gateway.api.parameters import Name, Version, declare_corrections
from gateway.backends.base import Backend, ModelResponse, unknown_model
from gateway.errors import BadGatewayError, UnsupportedMediaTypeError
from gateway.model_response import Document
from gateway.open_inference import outputs, wire
from gateway.open_inference.documents import (
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from gateway.services import AuthenticatedCaller, Services
from gateway.uploads import request_body
from radserve.auth.api_keys import Role
from radserve.schema.catalog import CatalogModel, CatalogVersion, Task

public = APIRouter(prefix=problems.OPEN_INFERENCE, tags=["open inference"])
router = APIRouter(prefix=problems.OPEN_INFERENCE, tags=["open inference"])

_PROBLEMS: Final = problems.document(401, 403, 404, 422, 429, 502, 503, 504)
_INFER_PROBLEMS: Final = _PROBLEMS | problems.document(400, 408, 413, 415, 500)
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            wire.JSON: {
                "schema": {"$ref": f"#/components/schemas/{InferenceRequest.__name__}"},
                "example": {
                    "id": "42",
                    "inputs": [{"name": wire.INPUT, "shape": [1], "datatype": "BYTES", "data": ["iVBORw0KGgo="]}],
                },
            }
        },
    }
}
_INFER: Final[dict[str, Any]] = {
    "response_model": InferenceResponse,
    "dependencies": [Depends(declare_corrections)],
    "responses": _INFER_PROBLEMS | {200: {"content": {wire.JSON: {"example": examples.INFERENCE}}}},
    "openapi_extra": _BODY,
    "description": "Returns a label with a probability or a mask for each image, in order. A rejected image has a "
    "status other than 200 and an error; the others keep their results. If every image is rejected, the response is an "
    f"error. Tensors may be binary (header `{wire.HEADER}`).",
}


@public.get("/health/live", operation_id="v2_is_live", summary="Check that the server runs")
async def live() -> ServerLive:
    """Return 200 while the gateway runs."""
    return ServerLive(live=True)


@public.get(
    "/health/ready",
    operation_id="v2_is_ready",
    summary="Check that models can be used",
    response_model=ServerReady,
    responses={503: {"model": ServerReady}},
)
async def ready(request: Request) -> Response:
    """Return 200 if predictions are possible, else 503."""
    problem = await services.of(request).backend.ready()
    return JSONResponse(ServerReady(ready=problem is None).model_dump(), 200 if problem is None else 503)


@public.get("", operation_id="v2_server_metadata", summary="Get name, version and extensions of the server")
async def server_metadata(request: Request) -> ServerMetadata:
    """Return the metadata of the server."""
    return ServerMetadata(name="radserve", version=request.app.version, extensions=(wire.EXTENSION,))


@router.get(
    "/models/{name}", operation_id="v2_model_metadata", summary="Get inputs and outputs of a model", responses=_PROBLEMS
)
async def model_metadata(request: Request, name: Name, caller: AuthenticatedCaller) -> ModelMetadata:
    """Return the metadata of the version that gets most of the requests."""
    return await _metadata(request, name, None, caller)


@router.get(
    "/models/{name}/versions/{version}",
    operation_id="v2_version_metadata",
    summary="Get inputs and outputs of a version",
    responses=_PROBLEMS,
)
async def version_metadata(
    request: Request, name: Name, version: Version, caller: AuthenticatedCaller
) -> ModelMetadata:
    """Return the metadata of a version of a model."""
    return await _metadata(request, name, version, caller)


@router.get(
    "/models/{name}/ready",
    operation_id="v2_is_model_ready",
    summary="Check that a model can be used",
    response_model=ModelReady,
    responses=_PROBLEMS | {503: {"model": ModelReady}},
)
async def model_ready(request: Request, name: Name, caller: AuthenticatedCaller) -> Response:
    """Return 200 if the model is served and the server is ready."""
    return await _ready(request, name, None, caller)


@router.get(
    "/models/{name}/versions/{version}/ready",
    operation_id="v2_is_version_ready",
    summary="Check that a version can be used",
    response_model=ModelReady,
    responses=_PROBLEMS | {503: {"model": ModelReady}},
)
async def version_ready(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return 200 if the version is served and the server is ready."""
    return await _ready(request, name, version, caller)


@router.post("/models/{name}/infer", operation_id="v2_infer", summary="Analyse images with a model", **_INFER)
async def infer(request: Request, name: Name, caller: AuthenticatedCaller) -> Response:
    """Return the results of a model."""
    return await _infer(request, Target("predictions", name), caller)


@router.post(
    "/models/{name}/versions/{version}/infer",
    operation_id="v2_infer_with_version",
    summary="Analyse images with a version of a model",
    **_INFER,
)
async def infer_with_version(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
    """Return the results of a version."""
    return await _infer(request, Target("predictions", name, version), caller)


async def _metadata(request: Request, name: str, version: str | None, caller: Caller) -> ModelMetadata:
    caller.require(Role.PREDICT)
    model, chosen = await _find(services.of(request).backend, name, version)
    return ModelMetadata(
        name=name,
        versions=tuple(item.version for item in model.versions),
        platform=outputs.PLATFORM,
        inputs=outputs.INPUTS,
        outputs=outputs.metadata(chosen.task),
    )


async def _ready(request: Request, name: str, version: str | None, caller: Caller) -> Response:
    caller.require(Role.PREDICT)
    backend = services.of(request).backend
    await _find(backend, name, version)
    is_ready = await backend.ready() is None
    return JSONResponse(ModelReady(name=name, ready=is_ready).model_dump(), 200 if is_ready else 503)


async def _infer(request: Request, target: Target, caller: Caller) -> Response:
    caller.require(Role.PREDICT)
    parts = services.of(request)
    _, version = await _find(parts.backend, target.model, target.version)
    document, images = await _read(request, parts)
    selected = outputs.select(document, version.task)
    body = await asyncio.to_thread(request_body.of_images, images)
    result = await inference.run(request, target, body, caller, task=version.task)
    if isinstance(result, ModelResponse):
        raise BadGatewayError("The analysis service sent a picture in place of results; it was discarded.")
    items = model_response.predictions(result)
    if len(items) != len(images):
        raise UnsupportedMediaTypeError("An image has several frames, but a tensor has one result for each image.")
    outputs.require_result(items)
    model = next(item["model"] for item in items if model_response.is_prediction(item))
    response = InferenceResponse(model_name=target.model, model_version=model["version"], id=document.id, outputs=[])
    content, headers = await asyncio.to_thread(_render, response, items, version.task, selected)  # encodes masks
    return Response(content, headers=headers)


def _render(
    response: InferenceResponse, items: Sequence[Document], task: Task, selected: Sequence[tuple[str, bool]]
) -> tuple[bytes, dict[str, str]]:
    tensors = outputs.tensors(items, task, [name for name, _ in selected])
    return wire.render(response, zip(tensors, (binary for _, binary in selected), strict=True))


async def _read(request: Request, parts: Services) -> tuple[InferenceRequest, list[bytes]]:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaTypeError("Compressed inference requests are not supported; send the body unchanged.")
    body, length = await request.body(), request.headers.get(wire.HEADER)
    return await asyncio.to_thread(wire.parse, body, length, parts.settings.max_files)


async def _find(backend: Backend, name: str, version: str | None) -> tuple[CatalogModel, CatalogVersion]:
    """Return a model and its version, by default the one with the largest share; raises NotFoundError."""
    for model in (await backend.catalog()).models:
        for item in model.versions:
            if model.name == name and version in (None, item.version):
                return model, item
    raise unknown_model()
