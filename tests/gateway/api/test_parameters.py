"""Unknown, repeated and empty query parameters."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from gateway.access import Caller
from gateway.errors import NotAuthenticatedError
from tests.gateway.application import client, gateway

VALUES = {"case_id": "1", "name": "chest", "version": "1.0.0", "result_id": "01234567-0123-7123-8123-0123456789ab"}


def ask(method: str, path: str, **parts: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(gateway(**parts)) as http:
            return await http.request(method, path)

    return asyncio.run(send())


PUBLIC = ("/live", "/ready", "/metrics", "/v2", "/v2/health/live", "/v2/health/ready")
"""Paths of probes and scrapes, which may have queries of their own."""
OPERATIONS = [
    (method, path) for path, item in gateway().openapi()["paths"].items() for method in item if path not in PUBLIC
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_an_unknown_query_parameter_is_rejected_by_every_operation_but_probes(method: str, path: str) -> None:
    response = ask(method, f"{path.format(**VALUES)}?positve=true")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith("Unknown query parameter 'positve'. ")


@pytest.mark.parametrize("path", PUBLIC)
def test_probes_and_scrapes_accept_any_query(path: str) -> None:
    assert ask("GET", f"{path}?source=balancer").status_code == 200


def test_the_rejection_names_the_known_parameters() -> None:
    assert ask("GET", "/api/results.csv?x=1&limit=3").json()["detail"] == (
        "Unknown query parameter 'limit', 'x'. "
        "Known: explain, group, image, label, model, positive, since, text, until, version."
    )
    assert ask("HEAD", "/api/results?x=1").status_code == 422
    assert "This operation has none." in ask("GET", "/api/models?x=1").json()["detail"]


def test_a_repeated_parameter_is_rejected_because_only_one_value_would_count() -> None:
    response = ask("GET", "/api/results?model=none&model=chest")
    assert response.status_code == 422
    assert response.json()["detail"] == "Repeated query parameter 'model'; send it once."


QUERIES = [
    (method, path, item["name"])
    for path, operations in gateway().openapi()["paths"].items()
    for method, operation in operations.items()
    for item in operation.get("parameters", ())
    if item["in"] == "query"
]


def test_an_empty_parameter_is_rejected_by_every_operation_that_has_it() -> None:
    async def send() -> None:
        async with client(gateway()) as http:
            for method, path, name in QUERIES:
                for query in (f"{name}=", name):
                    response = await http.request(method, f"{path.format(**VALUES)}?{query}", content=b"x")
                    expected = f"Empty query parameter {name!r}; give it a value, or omit it."
                    assert (response.status_code, response.json()["detail"]) == (422, expected), path

    assert {"cursor", "explain", "model", "object", "positive", "prevalence", "repair"} <= {
        name for *_, name in QUERIES
    }
    asyncio.run(send())


def test_a_caller_without_a_key_gets_401_rather_than_the_known_parameters() -> None:
    class RejectAll:
        async def identify(self, headers: Mapping[str, str]) -> Caller:
            raise NotAuthenticatedError("No.")

    assert ask("GET", "/api/models?x=1", authenticator=RejectAll()).status_code == 401


def test_files_of_the_page_accept_any_query() -> None:
    assert ask("GET", "/?source=homescreen").status_code == 200
