"""OpenAPI description: FastAPI's, completed by what applies to all routes."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway import problems
from radserve.schema.problem import ProblemDetails

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


def install(app: FastAPI) -> None:
    """Replace the OpenAPI description of an application."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # replaced by problem details
        schemas.pop(name, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    components["securitySchemes"] = _SCHEMES
    for path in schema["paths"].values():
        for operation in path.values():
            _complete(operation)
    return schema


def _complete(operation: dict[str, Any]) -> None:
    """Add the responses of middleware and authentication."""
    responses: dict[str, Any] = operation["responses"]
    statuses = [413, 500] if "requestBody" not in operation else [408, 413, 500]
    if "401" in responses:
        operation["security"] = [{name: []} for name in _SCHEMES]
        statuses += [403, 429, 503]
    for status, description in problems.document(*statuses).items():
        responses.setdefault(str(status), description)
    for status, response in list(responses.items()):
        headers = _HEADERS | (_RETRY if status in ("429", "503") else {})
        responses[status] = response | {"headers": response.get("headers", {}) | headers}
    operation["responses"] = dict(sorted(responses.items()))
