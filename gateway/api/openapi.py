"""The description of the API (OpenAPI): what FastAPI knows of the routes, and what holds for all of them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway import problems
from gateway.problems import ProblemDetails

_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`radserve keys create`), or a token of the issuer that the operator named.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}
_HEADERS: Final = {
    "X-Request-Id": {"description": "Names the request in all logs.", "schema": {"type": "string"}},
}
_RETRY: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}


def install(app: FastAPI) -> None:
    """Let an application describe itself so."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as the documentation of FastAPI does it


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's; here every error is problem details
        schemas.pop(name, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    components["securitySchemes"] = _SCHEMES
    for path in schema["paths"].values():
        for operation in path.values():
            _complete(operation)
    return schema


def _complete(operation: dict[str, Any]) -> None:
    """Add what the gateway itself may answer to any request: a body may be too long, a caller unknown."""
    responses: dict[str, Any] = operation["responses"]
    common = [413, 500] if "requestBody" not in operation else [408, 413, 500]
    if "401" in responses:
        operation["security"] = [{name: []} for name in _SCHEMES]
        common += [403, 429, 503]
    for code in common:
        responses.setdefault(str(code), problems.DOCUMENTED[code])
    for status, response in list(responses.items()):
        headers = _HEADERS | (_RETRY if status in ("429", "503") else {})
        responses[status] = response | {"headers": response.get("headers", {}) | headers}
    operation["responses"] = dict(sorted(responses.items()))
