"""Traces from the client through gateway, proxy and worker to a collector."""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.collector import PARENT, TRACE, TRACEPARENT, ReceivedSpan, collector
from tests.fake_supervisor import await_true
from tests.gateways import gateway
from tests.repack import FILM, NAME
from tests.server import ROOT, command, free_ports, running

pytestmark = pytest.mark.e2e

STAGES = ("decode", "preprocess", "inference", "postprocess")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def ask(url: str) -> None:
    """Send a prediction as part of a trace, with a name that no span may contain."""
    headers = {"traceparent": TRACEPARENT, "X-Filename": "Doe.png"}
    response = httpx.post(f"{url}/api/predictions/{NAME}", content=FILM, headers=headers, timeout=60)
    assert response.json()["label"] == "pneumonia"


def assert_one_trace(spans: list[ReceivedSpan]) -> None:
    """Check the spans of one prediction: names, parents, times, and nothing of the request."""
    by_name = {span.name: span for span in spans}
    assert sorted(by_name) == sorted(span.name for span in spans) == sorted(("gateway", "worker", *STAGES))
    at_gateway, worker = by_name["gateway"], by_name["worker"]
    stages = [by_name[name] for name in STAGES]
    assert (at_gateway.service, at_gateway.parent) == ("radserve-gateway", PARENT)
    assert (worker.service, worker.parent) == ("radserve-worker", at_gateway.id)
    assert worker.attributes == {
        "radserve.model": NAME,
        "radserve.version": "1.0.0",
        "http.response.status_code": 200,
    }
    assert {stage.parent for stage in stages} == {worker.id}
    assert at_gateway.start <= worker.start <= min(stage.start for stage in stages)
    assert max(stage.end for stage in stages) <= worker.end <= at_gateway.end
    assert "Doe" not in repr(spans)


def test_a_prediction_is_one_trace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20c2VjcmV0")
        with running(store, tmp_path / "log") as server, gateway(server, tmp_path, history="none") as started:
            ask(started.url)
            assert_one_trace(receiver.await_spans(TRACE, "gateway", "worker", *STAGES))
    assert "c2VjcmV0" not in (tmp_path / "log").read_text() + started.log.read_text()


def test_a_prediction_in_process_is_one_trace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        with gateway(None, tmp_path, archive=store / f"{NAME}-1.0.0.mar", history="none") as started:
            ask(started.url)
        # The gateway sent its remaining spans before it ended.
        assert_one_trace([span for span in receiver.spans if span.trace == TRACE])


def test_a_collector_that_does_not_answer_delays_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as receiver:
        receiver.answering.clear()
        monkeypatch.setenv(ENDPOINT, receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")  # longer than the tests' patience
        with gateway(None, tmp_path, archive=store / f"{NAME}-1.0.0.mar", history="none") as started:
            ask(started.url)
            await_true(lambda: receiver.requests == 2)  # of both services
            ask(started.url)
        assert receiver.spans == []


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
    done = subprocess.run(command(store, free_ports(3)), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "pip install 'radserve[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr
