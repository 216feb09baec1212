"""The application: models, health, errors, headers."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.access import Caller
from gateway.backends.base import ModelResponse
from gateway.errors import GatewayTimeoutError, NotAuthenticatedError
from gateway.metrics import REGISTRY
from gateway.rate_limit import AuthFailureLimiter
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend
from tests.test_architecture import loaded_by


def ask(method: str, path: str, backend: FakeBackend | None = None, **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with running_client(services(backend or FakeBackend())) as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def test_models_lists_catalog() -> None:
    (model,) = ask("GET", "/api/models").json()["models"]
    assert model["name"] == "chest"
    assert (model["versions"][0]["labels"], model["versions"][0]["threshold"]) == (["normal", "pneumonia"], 0.5)


def test_card_is_markdown_or_html_without_scripts() -> None:
    path = "/api/models/chest/1.0.0/card"
    assert ask("GET", path).text.startswith("---\nlicense: unknown\n---\n\n# Chest")
    html = ask("GET", path, headers={"Accept": "text/html"})
    assert html.headers["content-type"].startswith("text/html")
    assert html.text.startswith("<h1>Chest</h1>")
    assert "<table>" in html.text
    assert "<script" not in html.text


@pytest.mark.parametrize(
    "response",
    [
        ModelResponse(200, "text/html", b"<script>"),
        ModelResponse(200, "", b"{}"),
        ModelResponse(200, "application/json", b"[" * 100_000),
        ModelResponse(200, "application/json", b'{"predictions": [], "x": 1e400}'),
        ModelResponse(204, "application/json", b""),
        ModelResponse(500, "application/problem+json", b"[" * 100_000),
    ],
)
def test_unusable_response_of_server_returns_502(response: ModelResponse) -> None:
    reply = ask("POST", "/api/predictions/chest", FakeBackend(lambda _: response), content=b"film")
    assert (reply.status_code, reply.headers["content-type"]) == (502, "application/problem+json")


@pytest.mark.parametrize("path", ["/api/predictions/chest", "/api/explanations/chest/1.0.0"])
def test_put_equals_post(path: str) -> None:
    backend = FakeBackend()
    sent, put = ask("POST", path, backend, content=b"film"), ask("PUT", path, backend, content=b"film")
    assert (put.status_code, put.json().keys()) == (200, sent.json().keys())
    assert replace(backend.requests[1], request_id="") == replace(backend.requests[0], request_id="")


@pytest.mark.parametrize("path", ["/api/predictions/Chest", "/api/predictions/chest/latest", "/api/predictions/a%2fb"])
def test_invalid_model_name_is_not_forwarded(path: str) -> None:
    backend = FakeBackend()
    response = ask("POST", path, backend, content=b"film")
    assert response.status_code in (404, 405, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert backend.requests == []


def test_backend_problem_is_returned_with_request_id() -> None:
    def late(_: Any) -> ModelResponse:
        raise GatewayTimeoutError("It did not response within 60 s.")

    response = ask("POST", "/api/predictions/chest", FakeBackend(late), content=b"x", headers={"X-Request-Id": "abc"})
    assert response.status_code == 504
    assert response.json() == {
        "status": 504,
        "title": "Gateway timed out",
        "detail": "It did not response within 60 s.",
        "request_id": "abc",
    }
    assert response.headers["x-request-id"] == "abc"


def test_live_is_gateway_state_and_ready_is_server_state() -> None:
    backend = FakeBackend()
    backend.problem = "TorchServe is starting."
    assert ask("GET", "/live", backend).status_code == 200
    response = ask("GET", "/ready", backend)
    assert (response.status_code, response.json()["detail"]) == (503, "TorchServe is starting.")
    assert ask("GET", "/ready").status_code == 200


def test_history_is_part_of_ready_only() -> None:
    assert ask("GET", "/live").json().keys() == {"state", "detail", "service"}
    ready = {"state": "ready", "detail": "Ready for requests.", "history": "off", "problems": []}
    assert ask("GET", "/ready").json() == ready


@pytest.mark.parametrize("media_type", ["application/json", "text/html", ""])
def test_unknown_model_is_a_problem(media_type: str) -> None:
    torchserve = ModelResponse(404, media_type, b'{"code": 404, "type": "ModelNotFoundException", "message": "x"}')
    response = ask("POST", "/api/predictions/nothing", FakeBackend(lambda _: torchserve), content=b"film")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert response.json()["detail"] == "Unknown model or version; see /api/models."


def test_nginx_learns_whether_a_credential_is_valid() -> None:
    class RejectAll:
        async def identify(self, headers: Mapping[str, str]) -> Caller:
            raise NotAuthenticatedError("No.")

    async def responses() -> list[httpx.Response]:
        parts = replace(services(authenticator=RejectAll()), auth_failures=AuthFailureLimiter(1))
        async with running_client(parts) as client:
            return [await client.get("/auth") for _ in range(3)]

    first, *limited = asyncio.run(responses())
    assert first.status_code == 401
    assert [(response.status_code, response.headers["Retry-After"]) for response in limited] == [(429, "60")] * 2
    assert ask("GET", "/auth").status_code == 204


def test_metrics_have_no_client_controlled_labels() -> None:
    def count() -> float:
        labels = {"route": "/api/predictions/{name}", "method": "POST", "status": "200"}
        return REGISTRY.get_sample_value("radserve_gateway_requests_total", labels) or 0.0

    before = count()
    ask("POST", "/api/predictions/chest", content=b"x")
    ask("GET", "/nothing/at/all")
    ask("BREW", "/api/models")
    assert count() == before + 1
    text = ask("GET", "/metrics").text
    assert "/nothing/at/all" not in text
    assert "BREW" not in text


def test_gateway_does_not_load_torch() -> None:
    loaded = loaded_by(
        "import gateway.app, gateway.cli; from gateway.settings import Settings; gateway.app.create(Settings.read())"
    )
    assert not {"torch", "numpy", "PIL", "pydicom", "boto3"} & loaded
    assert {name for name in loaded if name.partition(".")[0] == "handlers"} <= {
        "handlers",
        "handlers.errors",
        "handlers.json_lines",
        "handlers.recipe",
        "handlers.tracing",
        "handlers.validation_error",
    }
