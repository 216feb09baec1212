"""OpenAPI description: FastAPI's, completed by what applies to all routes."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway import problems
from gateway.api import bodies
from gateway.open_inference.documents import InferenceRequest
from radserve.schema.problem import ProblemDetails

DESCRIPTION: Final = """Runs radiology models on images.

**Not a medical device.** For research only; do not use it for patient care.

Errors are problem details (RFC 9457) with a `detail` that says what to do. HEAD works wherever GET does. `/api`
and `/v2/models` reject unknown, empty and repeated query parameters with 422."""
TAGS: Final = [
    {"name": "predictions", "description": "Analyse images, as raw bytes, in JSON or in a form."},
    {"name": "models", "description": "The models that are served, their cards and sample images."},
    {"name": "results", "description": "The history: find, export and delete stored results."},
    {"name": "cases", "description": "What the PACS loop does with the images that it receives."},
    {"name": "uploads", "description": "Upload images that are too large for a request."},
    {"name": "open inference", "description": "The same models by the Open Inference Protocol, version 2."},
    {"name": "health", "description": "Liveness, readiness and metrics."},
]
# The first is relative to the address of this document, /api/openapi.json, so it is right below any prefix of a proxy.
SERVERS: Final = [
    {"url": "..", "description": "The gateway that returned this document."},
    {"url": "http://127.0.0.1:8000", "description": "A gateway on this machine."},
]
_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`radserve keys create`), or a token of the issuer that the operator configured.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
_HEADERS: Final = {"X-Request-Id": {"description": "Id of the request in all logs.", "schema": {"type": "string"}}}
_RETRY: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
_JSON: Final = "application/json"


def install(app: FastAPI) -> None:
    """Replace the OpenAPI description of an application."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title,
        version=app.version,
        summary="Radiology models behind one HTTP API.",
        description=DESCRIPTION,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
        servers=SERVERS,
        tags=TAGS,
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # replaced by problem details
        schemas.pop(name, None)
    schemas = _definitions(*bodies.MODELS, InferenceRequest, ProblemDetails) | schemas
    components["schemas"] = {name: _without_empty_defaults(schemas[name]) for name in sorted(schemas)}
    components["securitySchemes"] = _SCHEMES
    for path in schema["paths"].values():
        for operation in path.values():
            _complete(operation)
    return schema


def _definitions(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of models that no route names, and of what they contain."""
    inputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in models]
    _, document = models_json_schema(inputs, ref_template="#/components/schemas/{model}")
    return dict(document["$defs"])


def _without_empty_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove the defaults of properties that may be absent: generators take a property with a default for present."""
    properties = {
        name: {key: value for key, value in item.items() if key != "default" or value not in (None, [], {})}
        for name, item in schema.get("properties", {}).items()
    }
    return schema | ({"properties": properties} if properties else {})


def _complete(operation: dict[str, Any]) -> None:
    """Add the responses of middleware and authentication."""
    responses: dict[str, Any] = operation["responses"]
    statuses = [413, 422, 500] if "requestBody" not in operation else [408, 413, 422, 500]
    if "401" in responses:
        operation["security"] = [{name: []} for name in _SCHEMES]
        statuses += [403, 429, 503]
    for status, description in problems.document(*statuses).items():
        responses.setdefault(str(status), description)
    for status, response in list(responses.items()):
        headers = _HEADERS | (_RETRY if status in ("429", "503") else {})
        responses[status] = response | {"headers": response.get("headers", {}) | headers}
        if _JSON in (content := response.get("content", {})):  # first, because generators take the first one
            responses[status]["content"] = {_JSON: content[_JSON]} | content
    operation["responses"] = dict(sorted(responses.items()))
