"""/api/predictions and /api/explanations."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response

from gateway import model_response, problems, services
from gateway.access import Caller
from gateway.api.models import Name, Version
from gateway.backends.base import ModelRequest, Verb
from gateway.errors import BadRequestError
from gateway.services import AuthenticatedCaller, Services
from gateway.uploads import request_body
from gateway.uploads.request_body import ImageReference, RequestBody
from radserve.auth.api_keys import Role
from radserve.schema.domain import Repair
from radserve.schema.explanation import Explanation
from radserve.schema.prediction import Prediction
from radserve.schema.response import ResultList
from radserve.schema.segmentation import Segmentation

router = APIRouter(prefix="/api", tags=["predictions"])

_IMAGE: Final = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_INSTANCES: Final = {
    "type": "array",
    "minItems": 1,
    "items": {"description": '`{"b64": BASE64}`; an invalid item gets problem details in place of a prediction.'},
}
_PROPERTIES: Final[dict[str, Any]] = {
    "image": {"type": "string"},
    "object": {"type": "string"},
    "url": {"type": "string"},
    "instances": _INSTANCES,
}
_ASSURANCES: Final = {
    "assurances": {
        "type": "object",
        "description": 'What the images do not state themselves: `{"age": 5, "view": "PA"}` (docs/scope.md), '
        "and the `prevalence` to assume (docs/certainty.md).",
    }
}
_REPAIRS: Final = list(get_args(Repair))
_FURTHER: Final = _ASSURANCES | {
    "repair": {"enum": [*_REPAIRS, None], "description": "Repair of all images, see docs/domain.md."}
}
_DOCUMENT: Final = {
    "oneOf": [
        {
            "type": "object",
            "required": [key],
            "properties": {key: schema} | (_FURTHER if key in ("image", "instances") else {}),
            "additionalProperties": False,
        }
        for key, schema in _PROPERTIES.items()
    ]
}
_FORM: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
        "repair": {"enum": _REPAIRS},
    },
}
_REQUEST: Final = {
    "requestBody": {
        "required": True,
        "description": "An image (its content determines the format), a form with files, or JSON: "
        '`{"image": BASE64}`, `{"instances": [{"b64": BASE64}, ...]}`, `{"object": KEY}` of an upload, `{"url": URL}`. '
        "The headers `X-Assurances: age=5, view=PA` and `X-Repair: rotate-90`, and the query, work with every body.",
        "content": {
            "application/octet-stream": _IMAGE,
            "image/*": _IMAGE,
            "application/dicom": _IMAGE,
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": _DOCUMENT},
        },
    }
}
RepairQuery = Annotated[
    str | None,
    Query(
        alias="repair",
        description="Turn (clockwise) or invert every image before the analysis.",
        json_schema_extra={"enum": _REPAIRS},
    ),
]


def _decimal(text: str) -> str:
    """Require digits and points, as the proxy does; the range is checked next."""
    if not re.fullmatch(r"[0-9.]{1,64}", text):
        raise ValueError("must be a decimal number, such as 0.1")
    return text


PrevalenceQuery = Annotated[
    float | None,
    Query(
        alias="prevalence",
        ge=0.000001,
        le=0.999999,
        description="Share of positive images to assume, in digits and a point; see docs/certainty.md.",
    ),
    BeforeValidator(_decimal),
]
_DOCUMENTS: Final = {
    "predictions": Prediction | Segmentation | ResultList,
    "explanations": Explanation | ResultList,
}


def _add_routes(verb: Verb) -> None:
    success: dict[str, Any] = {
        "model": _DOCUMENTS[verb],
        "description": "The model server's prediction with `id`, `time`, `filename` and `history`; a picture if "
        "`Accept` requests `image/png` (`;view=mask`, `overlay`, `map`).",
        "content": {"image/png": _IMAGE},
    }
    statuses = problems.document(400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 429, 500, 502, 503, 504)
    options: dict[str, Any] = {"responses": statuses | {200: success}, "openapi_extra": _REQUEST}

    # PUT is what `curl -T FILE` sends; TorchServe accepts it too.
    @router.post(f"/{verb}/{{name}}", name=f"{verb} of a model", **options)
    @router.put(f"/{verb}/{{name}}", name=f"{verb} of a model", **options)
    async def of_model(
        request: Request,
        name: Name,
        caller: AuthenticatedCaller,
        _repair: RepairQuery = None,
        _prevalence: PrevalenceQuery = None,
    ) -> Response:
        return await _respond(request, verb, name, None, caller)

    @router.post(f"/{verb}/{{name}}/{{version}}", name=f"{verb} of a version", **options)
    @router.put(f"/{verb}/{{name}}/{{version}}", name=f"{verb} of a version", **options)
    async def of_version(
        request: Request,
        name: Name,
        version: Version,
        caller: AuthenticatedCaller,
        _repair: RepairQuery = None,
        _prevalence: PrevalenceQuery = None,
    ) -> Response:
        return await _respond(request, verb, name, version, caller)


_add_routes("predictions")
_add_routes("explanations")


async def _respond(request: Request, verb: Verb, name: str, version: str | None, caller: Caller) -> Response:
    caller.require(Role.PREDICT)
    parts = services.of(request)
    body = await request_body.read(request, parts.settings)
    if not isinstance(body, RequestBody):
        body = await _fetch(body, parts, caller)
    model_request = ModelRequest(
        verb=verb,
        model=name,
        version=version,
        body=body.content,
        media_type=_header("Content-Type", body.media_type),
        encoding=_header("Content-Encoding", body.encoding),
        accept=_header("Accept", request.headers.get("accept", "")),
        assurances=_header("X-Assurances", _assurances(request)),
        repair=_header("repair", _repair_outside_json(request, body)),
        request_id=request.state.request_id,
        client=_header("X-Client-Id", request.headers.get("x-client-id", "")),
        traceparent=request.state.traceparent,
    )
    response = await parts.backend.infer(model_request)
    if response.status != 200:
        raise model_response.problem(response)
    if model_response.is_picture(response):
        return Response(response.body, media_type=model_response.PNG, headers=dict(response.headers))
    document, results = await asyncio.to_thread(model_response.parse, response, verb)  # decodes masks
    await asyncio.to_thread(model_response.require_images, results, model_request, body)  # decodes the body
    document = model_response.annotate(document, body.names, datetime.now(UTC))
    entries = model_response.history_entries(
        document, verb, caller.name, request.state.request_id, keep_names=parts.settings.keep_names
    )
    outcome = await parts.recorder.record(entries, body) if entries else "off"
    return JSONResponse(document | {"history": outcome})


async def _fetch(reference: ImageReference, parts: Services, caller: Caller) -> RequestBody:
    if reference.kind == "url":
        if parts.url_fetcher is None:
            raise BadRequestError("Fetching URLs is disabled (RADSERVE_GATEWAY_URL_HOSTS); send the image itself.")
        return await parts.url_fetcher.fetch(reference.value)
    if parts.uploads is None:
        raise BadRequestError("Uploads are disabled (RADSERVE_GATEWAY_UPLOADS); send the image itself.")
    return await parts.uploads.fetch(reference.value, caller)


def _assurances(request: Request) -> str:
    """Return the assurances of the header and the prevalence of the query; the model server rejects a second one."""
    lines = request.headers.getlist("x-assurances")
    if len(lines) > 1:
        raise BadRequestError("The request has several X-Assurances headers; send one: age=5, view=PA.")
    stated = request.query_params.getlist("prevalence")
    if len(stated) > 1:
        raise BadRequestError("The query has several prevalences; send one: ?prevalence=0.1.")
    lines += [f"prevalence={value}" for value in stated]
    return ", ".join(filter(None, lines))


def _repair_outside_json(request: Request, body: RequestBody) -> str:
    """Return the repair of query, header or form; the model server compares it with that of a JSON body."""
    values = [*request.query_params.getlist("repair"), *request.headers.getlist("x-repair"), *body.repairs]
    if len(values) > 1 or values == [""]:
        raise BadRequestError(
            f"The request has {len(values)} repairs or an empty one; send one of {', '.join(_REPAIRS)}, once: as the "
            "query repair, as the header X-Repair, or as a field of the form."
        )
    return "".join(values)


def _header(name: str, value: str) -> str:
    """Return the value of a header field if it can be passed on."""
    if not (value.isascii() and value.isprintable()):
        raise BadRequestError(f"Header {name} contains invalid characters.")
    return value
