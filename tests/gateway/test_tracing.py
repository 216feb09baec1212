"""Spans of the gateway, and the headers that it sends to the model server."""

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.settings import Settings
from radserve.tracing import Tracer
from tests.collector import PARENT, TRACE, TRACEPARENT
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend
from tests.server import ROOT

FILM = (ROOT / "archives" / "chest-xray-cnn" / "sample.png").read_bytes()
PATH = "/api/predictions/chest"


def ask(
    backend: FakeBackend, path: str, *, traced: bool = True, **options: Any
) -> tuple[httpx.Response, list[ReadableSpan]]:
    """Send a request; return the response and the gateway's spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parts = services(backend, Settings.read(history="none"))
    parts = replace(parts, tracer=Tracer(provider)) if traced else parts

    async def send() -> httpx.Response:
        async with running_client(parts) as client:
            return await client.request("POST" if "predictions" in path else "GET", path, **options)

    return asyncio.run(send()), list(exporter.get_finished_spans())


def test_the_span_of_the_server_is_a_child_of_the_gateways() -> None:
    backend = FakeBackend()
    sent = {"traceparent": TRACEPARENT, "tracestate": "vendor=Doe", "X-Filename": "Doe.png"}
    response, (span,) = ask(backend, f"{PATH}?prevalence=0.123", content=FILM, headers=sent)
    assert response.status_code == 200
    assert span.parent is not None
    ids = (format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id))
    assert (span.name, *ids) == ("gateway", TRACE, PARENT)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/predictions/{name}",
        "http.response.status_code": 200,
    }
    assert not re.search("Doe|prevalence", span.to_json())
    (request,) = backend.requests
    assert request.headers["Traceparent"] == f"00-{TRACE}-{format_span_id(span.context.span_id)}-01"
    assert "Doe" not in repr(request.headers)


def test_without_a_tracer_no_header_is_passed_on() -> None:
    backend = FakeBackend()
    response, spans = ask(backend, PATH, traced=False, content=FILM, headers={"traceparent": TRACEPARENT})
    assert (response.status_code, spans) == (200, [])
    assert "Traceparent" not in backend.requests[0].headers


@pytest.mark.parametrize("path", ["/", "/live", "/ready", "/metrics", "/v2/health/live", "/v2/health/ready"])
def test_only_the_api_is_traced(path: str) -> None:
    _, spans = ask(FakeBackend(), path)
    assert spans == []


def test_a_span_names_no_path_that_a_client_chose() -> None:
    _, (span,) = ask(FakeBackend(), "/api/Doe")
    assert (span.attributes or {})["http.route"] == "other"
    assert "Doe" not in span.to_json()


def test_a_failure_marks_the_span() -> None:
    def fail(_: ModelRequest) -> ModelResponse:
        raise ZeroDivisionError("Doe")

    response, (span,) = ask(FakeBackend(fail), PATH, content=FILM)
    assert (response.status_code, span.status.status_code) == (500, StatusCode.ERROR)
    assert "Doe" not in span.to_json()
    assert span.events == ()


def test_the_gateway_does_not_start_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hiding = tmp_path / "opentelemetry" / "exporter"  # the installed exporter
    hiding.mkdir(parents=True)
    (hiding / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    done = subprocess.run([sys.executable, "-m", "gateway"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("radserve-gateway: OTEL_EXPORTER_OTLP_ENDPOINT ")
    assert "pip install 'radserve[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr
