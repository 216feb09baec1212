"""Traces from the client through gateway, proxy and worker to a collector."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.collector import PARENT, TRACE, TRACEPARENT, ReceivedSpan, collector
from tests.gateways import gateway
from tests.repack import NAME
from tests.server import ROOT, running

pytestmark = pytest.mark.e2e

FILM = (ROOT / "archives" / NAME / "sample.png").read_bytes()
STAGES = ("decode", "preprocess", "inference", "postprocess")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def ask(url: str) -> None:
    """Send a prediction as part of a trace, with a name that no span may contain."""
    headers = {"traceparent": TRACEPARENT, "X-Filename": "Doe.png"}
    response = httpx.post(f"{url}/api/predictions/{NAME}?name=Doe", content=FILM, headers=headers, timeout=60)
    assert response.json()["label"] == "pneumonia"


def test_a_prediction_is_one_trace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2VjcmV0")
        with running(store, tmp_path / "log") as server, gateway(server, tmp_path, history="none") as started:
            ask(started.url)
            spans = receiver.await_spans(TRACE, "gateway", "worker", *STAGES)
            ask(started.url)
        # What the last second left is sent when the processes end.
        assert len(receiver.await_spans(TRACE, "gateway")) == 2 * len(spans)
    by_name = {span.name: span for span in spans}
    assert len(by_name) == len(spans)
    at_gateway, worker = by_name["gateway"], by_name["worker"]
    assert (at_gateway.service, at_gateway.parent) == ("radserve-gateway", PARENT)
    assert (worker.service, worker.parent) == ("radserve-worker", at_gateway.id)
    assert worker.attributes == {
        "radserve.model": NAME,
        "radserve.version": "1.0.0",
        "http.response.status_code": 200,
    }
    assert {by_name[stage].parent for stage in STAGES} == {worker.id}
    assert_nested(at_gateway, worker, *(by_name[stage] for stage in STAGES))
    assert "Doe" not in repr(receiver.spans)
    assert "c2VjcmV0" not in (tmp_path / "log").read_text() + started.log.read_text()


def assert_nested(at_gateway: ReceivedSpan, worker: ReceivedSpan, *stages: ReceivedSpan) -> None:
    assert at_gateway.start <= worker.start <= min(stage.start for stage in stages)
    assert max(stage.end for stage in stages) <= worker.end <= at_gateway.end


def test_no_request_reaches_the_collector_while_traces_are_off(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        with running(store, tmp_path / "log") as server, gateway(server, tmp_path, history="none") as started:
            ask(started.url)
        assert receiver.requests == 0


def test_the_server_does_not_start_without_the_package(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hiding = tmp_path / "opentelemetry" / "exporter"  # the installed exporter
    hiding.mkdir(parents=True)
    (hiding / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    command = [sys.executable, "-m", "radserve", "serve", "--model-store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "pip install 'radserve[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr
