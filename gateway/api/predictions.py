"""/api/predictions and /api/explanations."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from gateway import event_stream, model_response, problems, services
from gateway.access import Caller
from gateway.api import bodies, dicom, examples, inference, streaming
from gateway.api.inference import Target
from gateway.api.parameters import Name, Version, declare_corrections
from gateway.backends.base import ModelResponse, Verb
from gateway.errors import BadRequestError
from gateway.services import AuthenticatedCaller, Services
from gateway.uploads import request_body
from gateway.uploads.request_body import ImageReference, RequestBody
from radserve.auth.api_keys import Role
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.response import ResultList
from radserve.schema.segmentation import Segmentation

router = APIRouter(prefix="/api", tags=["predictions"])

_DOCUMENTS: Final = {"predictions": Prediction | Segmentation | ResultList, "explanations": Explanation | ResultList}
_ACTIONS: Final[Mapping[Verb, tuple[str, str, str]]] = {
    "predictions": ("predict", "Analyse", "label and probability, or a mask"),
    "explanations": ("explain", "Explain", "label and probability with a heat map of the areas that influenced them"),
}
"""Prefix of the operation id, verb of the summary, and what the response contains."""
_PROBLEMS: Final = problems.document(400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 429, 500, 502, 503, 504)
_EXAMPLE: Final = {"example": examples.PREDICTION}
_BODIES: Final = "The path also accepts the other bodies that this API documents, whatever the method."


def _add_routes(verb: Verb) -> None:
    action, summary, contents = _ACTIONS[verb]
    returns = (
        f"Returns {contents}, for each image, with an `id` that identifies the result in the history. `Accept` "
        "requests another form: `image/png` (`;view=mask`, `overlay`, `map`) a picture of one image; "
        '`application/dicom` (`;type=sr`, `seg`, `sc`) or `multipart/related; type="application/dicom"` DICOM objects '
        "of a DICOM image; `text/event-stream` events as each image finishes (`accepted`, `prediction` or `rejection`, "
        "`progress`, `done`, `error`)."
    )

    async def of_model(request: Request, name: Name, caller: AuthenticatedCaller) -> Response:
        return await _respond(request, Target(verb, name), caller)

    async def of_version(request: Request, name: Name, version: Version, caller: AuthenticatedCaller) -> Response:
        return await _respond(request, Target(verb, name, version), caller)

    for path, endpoint, suffix, which in (
        (f"/{verb}/{{name}}", of_model, "", "with a model"),
        (f"/{verb}/{{name}}/{{version:version}}", of_version, "_with_version", "with a version of a model"),
    ):
        for method, end, kind, title, body in (
            ("POST", "/files", "files", "a form with files", bodies.FILES),
            ("PUT", "", "image", "an image", bodies.IMAGE),
            ("POST", "", "json", "images in JSON", bodies.DOCUMENT),
        ):
            router.add_api_route(
                path + end,
                endpoint,
                methods=[method],
                operation_id=f"{action}_{kind}{suffix}",
                summary=f"{summary} {title} {which}",
                description=returns if end else f"{returns} {_BODIES}",
                dependencies=[Depends(declare_corrections), *([Depends(request_body.require_form)] if end else [])],
                responses=_PROBLEMS | {200: _success(verb)},
                openapi_extra=body,
            )


def _success(verb: Verb) -> dict[str, Any]:
    success: dict[str, Any] = {
        "model": _DOCUMENTS[verb],
        "description": "The model server's prediction with `id`, `time`, `filename` and `history`.",
    }
    events = {event_stream.MEDIA_TYPE: {"schema": {"type": "string"}, "example": examples.EVENTS}}
    return success | {"content": ({model_response.JSON: _EXAMPLE} if verb == "predictions" else {}) | events}


_add_routes("predictions")
_add_routes("explanations")


async def _respond(request: Request, target: Target, caller: Caller) -> Response:
    caller.require(Role.PREDICT)
    parts = services.of(request)
    body = await request_body.read(request, parts.settings)
    if not isinstance(body, RequestBody):
        body = await _fetch(body, parts, caller)
    accept = request.headers.get("accept", "")
    if dicom.is_requested(accept):
        return await dicom.respond(request, target, body, caller)
    if event_stream.is_requested(accept):
        return await streaming.respond(request, target, body, caller)
    outcome = await inference.run(request, target, body, caller, accept)
    if isinstance(outcome, ModelResponse):
        return Response(outcome.body, media_type=model_response.PNG, headers=dict(outcome.headers))
    return JSONResponse(outcome)


async def _fetch(reference: ImageReference, parts: Services, caller: Caller) -> RequestBody:
    if reference.kind == "url":
        if parts.url_fetcher is None:
            raise BadRequestError("Fetching URLs is disabled (RADSERVE_GATEWAY_URL_HOSTS); send the image itself.")
        return await parts.url_fetcher.fetch(reference.value)
    if parts.uploads is None:
        raise BadRequestError("Uploads are disabled (RADSERVE_GATEWAY_UPLOADS); send the image itself.")
    return await parts.uploads.fetch(reference.value, caller)
