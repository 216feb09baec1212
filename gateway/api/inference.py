"""Runs a model on the images of a request: checks the response, and records the results."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from gateway import model_response, services
from gateway.access import Caller
from gateway.api.parameters import REPAIRS
from gateway.backends.base import ModelRequest, ModelResponse, Verb
from gateway.errors import BadRequestError
from gateway.model_response import Document
from gateway.uploads.request_body import RequestBody
from radserve.schema.catalog import Task


@dataclass(frozen=True)
class Target:
    """What a request asks for: a verb, a model, and its version; None lets the server choose one.

    The server chooses the same version for all requests of a `client`; the caller's own header comes first.
    """

    verb: Verb
    model: str
    version: str | None = None
    client: str = ""


def check(request: Request, target: Target, body: RequestBody) -> None:
    """Raise BadRequestError if the headers or the query of a request are invalid."""
    _model_request(request, target, body, model_response.JSON)


async def send(
    request: Request, target: Target, body: RequestBody, accept: str = model_response.JSON
) -> tuple[ModelRequest, ModelResponse]:
    """Return the request to the model server and its response, unchecked; raises its error as a ProblemError."""
    model_request = _model_request(request, target, body, accept)
    response = await services.of(request).backend.infer(model_request)
    if response.status != 200:
        raise model_response.problem(response)
    return model_request, response


async def run(
    request: Request,
    target: Target,
    body: RequestBody,
    caller: Caller,
    accept: str = model_response.JSON,
    task: Task | None = None,
) -> Document | ModelResponse:
    """Return the annotated document of all results, or the response if it is a picture.

    Raises a ProblemError if the model or its server fails, or if the response is not about the images of the request
    or of another task.
    """
    parts = services.of(request)
    model_request, response = await send(request, target, body, accept)
    if model_response.is_picture(response):
        return response
    document, results = await asyncio.to_thread(model_response.parse, response, target.verb)  # decodes masks
    await asyncio.to_thread(model_response.require_images, results, model_request, body)  # decodes the body
    if task is not None:
        model_response.require_task(document, task)
    document = model_response.annotate(document, body.names, datetime.now(UTC))
    entries = model_response.history_entries(
        document, target.verb, caller.name, request.state.request_id, keep_names=parts.settings.keep_names
    )
    if not entries or parts.recorder.history is None:
        return document | {"history": "off"}
    details = model_response.history_details(document, with_overlays=parts.settings.overlays)
    if target.verb == "predictions":
        return document | {"history": await parts.recorder.record(entries, body, details)}
    outcome, explained = await parts.recorder.record_explanations(entries, body, details)
    return model_response.identify(document, explained) | {"history": outcome}


def _model_request(request: Request, target: Target, body: RequestBody, accept: str) -> ModelRequest:
    return ModelRequest(
        verb=target.verb,
        model=target.model,
        version=target.version,
        body=body.content,
        media_type=_header("Content-Type", body.media_type),
        encoding=_header("Content-Encoding", body.encoding),
        accept=_header("Accept", accept),
        assurances=_header("X-Assurances", _assurances(request)),
        repair=_header("repair", _repair_outside_json(request, body)),
        request_id=request.state.request_id,
        client=_header("X-Client-Id", request.headers.get("x-client-id") or target.client),
        traceparent=request.state.traceparent,
    )


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
            f"The request has {len(values)} repairs or an empty one; send one of {', '.join(REPAIRS)}, once: as the "
            "query repair, as the header X-Repair, or as a field of the form."
        )
    return "".join(values)


def _header(name: str, value: str) -> str:
    """Return the value of a header field if it can be passed on."""
    if not (value.isascii() and value.isprintable()):
        raise BadRequestError(f"Header {name} contains invalid characters.")
    return value
