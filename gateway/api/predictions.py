"""/api/predictions and /api/explanations: an image in, an answer out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from gateway import problems, services
from gateway import results as answers
from gateway.access import Caller
from gateway.api import documents
from gateway.api.models import Name, Version
from gateway.backends.base import Question, Reply, Verb
from gateway.errors import BadRequestError
from gateway.uploads import request_body
from gateway.uploads.request_body import Body
from radserve.auth.api_keys import Role

router = APIRouter(prefix="/api", tags=["predictions"])

Asker = Annotated[Caller, Depends(services.caller)]

_IMAGE: Final = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_INSTANCE: Final = {"description": '`{"b64": BASE64}`; what is none is refused in the place of its answer.'}
_DOCUMENT: Final = {
    "oneOf": [
        {"type": "object", "required": [key], "properties": {key: {"type": "string"}}, "additionalProperties": False}
        for key in ("image", "object", "url")
    ]
    + [
        {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "items": _INSTANCE,
                }
            },
        }
    ]
}
_FORM: Final = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
}
_REQUEST: Final = {
    "requestBody": {
        "required": True,
        "description": "One image as it is (its content decides what it is), a form with files, or JSON: "
        '`{"image": BASE64}`, `{"instances": [{"b64": BASE64}, ...]}`, `{"object": KEY}` of an upload, `{"url": URL}`.',
        "content": {
            "application/octet-stream": _IMAGE,
            "image/*": _IMAGE,
            "application/dicom": _IMAGE,
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": _DOCUMENT},
        },
    }
}
_ANSWERS: Final = {
    "predictions": documents.OneClassification | documents.OneSegmentation | documents.Predictions,
    "explanations": documents.OneExplanation | documents.Explanations,
}


def _routes(verb: Verb) -> None:
    responses: problems.Documented = problems.DOCUMENTED | {
        200: {
            "model": _ANSWERS[verb],
            "description": "The answer, as the server gives it, with `id`, `time` and `filename`; a picture of it "
            "where `Accept` asks for `image/png` (`;view=mask`, `overlay`, `map`).",
            "content": {"image/png": _IMAGE},
        }
    }

    words: dict[str, Any] = {"responses": responses, "openapi_extra": _REQUEST}

    @router.post(f"/{verb}/{{name}}", name=f"{verb} of a model", **words)
    @router.put(f"/{verb}/{{name}}", name=f"{verb} of a model", **words)  # what curl -T does; as TorchServe takes it
    async def current(request: Request, name: Name, caller: Asker) -> Response:
        return await _answer(request, verb, name, None, caller)

    @router.post(f"/{verb}/{{name}}/{{version}}", name=f"{verb} of a version", **words)
    @router.put(f"/{verb}/{{name}}/{{version}}", name=f"{verb} of a version", **words)
    async def pinned(request: Request, name: Name, version: Version, caller: Asker) -> Response:
        return await _answer(request, verb, name, version, caller)


_routes("predictions")
_routes("explanations")


async def _answer(request: Request, verb: Verb, name: str, version: str | None, caller: Caller) -> Response:
    caller.require(Role.PREDICT)
    found = services.of(request)
    asked = await request_body.read(request, found.settings)
    if not isinstance(asked, Body):
        asked = await found.references.fetch(asked, caller)
    reply = await found.backend.ask(_question(request, verb, name, version, asked))
    if reply.status != 200:
        raise answers.refusal(reply)
    if not reply.media_type.startswith(request_body.JSON):
        return Response(reply.body, media_type=reply.media_type)
    return JSONResponse(await _kept(request, verb, caller, asked, reply))


def _question(request: Request, verb: Verb, name: str, version: str | None, asked: Body) -> Question:
    return Question(
        verb=verb,
        model=name,
        version=version,
        body=asked.content,
        media_type=_sent("Content-Type", asked.media_type),
        encoding=_sent("Content-Encoding", asked.encoding),
        accept=_sent("Accept", request.headers.get("accept", "")),
        request_id=request.state.id,
        client=_sent("X-Client-Id", request.headers.get("x-client-id", "")),
    )


def _sent(name: str, value: str) -> str:
    """Return the value of a header field as it may be sent on."""
    if not (value.isascii() and value.isprintable()):
        raise BadRequestError(f"{name} has characters that no header field may have.")
    return value


async def _kept(request: Request, verb: Verb, caller: Caller, asked: Body, reply: Reply) -> dict[str, Any]:
    found = services.of(request)
    document = answers.annotated(answers.parse(reply), asked.names, datetime.now(UTC))
    keep_names = found.settings.keep_names
    results = answers.results(document, verb, caller.name, request.state.id, keep_names=keep_names)
    kept = await found.keeping.keep(results, asked) if results else "off"
    return document | {"history": kept}
