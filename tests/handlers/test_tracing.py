"""Spans of workers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from handlers import tracing
from handlers.classification import Classification
from handlers.errors import TracingError
from handlers.tracing import Tracer
from tests.collector import PARENT, TRACE, TRACEPARENT, collector
from tests.handlers.batch import B64, ask, context
from tests.handlers.test_pipeline import film
from tests.server import ROOT
from tests.test_architecture import loaded_by

STAGES = ["decode", "preprocess", "inference", "postprocess"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def service(brightness_archive: Path, spans: InMemorySpanExporter) -> Classification:
    handler = Classification()
    handler.initialize(context(brightness_archive, []))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    handler.tracer = Tracer(provider)
    return handler


def workers(spans: InMemorySpanExporter) -> list[tuple[ReadableSpan, list[ReadableSpan]]]:
    """Return each span "worker" with its children."""
    finished = spans.get_finished_spans()
    return [
        (span, [child for child in finished if child.parent and child.parent.span_id == span.context.span_id])
        for span in finished
        if span.name == "worker"
    ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def test_a_request_has_a_span_with_its_stages(service: Classification, spans: InMemorySpanExporter) -> None:
    ask(service, (film(), {"traceparent": TRACEPARENT}))
    ((worker, stages),) = workers(spans)
    assert worker.parent is not None
    assert (format_trace_id(worker.context.trace_id), format_span_id(worker.parent.span_id)) == (TRACE, PARENT)
    assert worker.attributes == {
        "radserve.model": "brightness",
        "radserve.version": "1.0.0",
        "http.response.status_code": 200,
    }
    assert [span.name for span in stages] == STAGES
    times = [time for span in stages for time in (span.start_time, span.end_time)]
    ordered = [worker.start_time, *times, worker.end_time]
    assert ordered == sorted(ordered, key=lambda time: time or 0)
    for span in stages:
        assert list(attributes(span)) == ["radserve.seconds"]
        assert 0 < attributes(span)["radserve.seconds"] <= seconds(span)


def test_each_request_of_a_batch_has_its_own_spans(service: Classification, spans: InMemorySpanExporter) -> None:
    other = "6" * 32
    instances: dict[str, Any] = {"instances": [{"b64": B64}] * 9 + [{"b64": "junk"}]}
    ask(
        service,
        (film(), {"traceparent": TRACEPARENT}),
        (instances, {"traceparent": f"00-{other}-{PARENT}-01"}),
        (b"junk", {}),
        (None, {}),
    )
    recorded = [(worker, [span.name for span in stages]) for worker, stages in workers(spans)]
    assert [names for _, names in recorded] == [STAGES, STAGES, ["decode", "postprocess"], []]
    traces = [format_trace_id(worker.context.trace_id) for worker, _ in recorded]
    assert traces[:2] == [TRACE, other]
    assert len(set(traces)) == 4
    assert [attributes(worker)["http.response.status_code"] for worker, _ in recorded] == [200, 200, 415, 400]


def test_a_stage_of_several_images_is_one_span_with_the_time_spent(
    service: Classification, spans: InMemorySpanExporter
) -> None:
    ask(service, ({"instances": [{"b64": B64}] * 9}, {}))  # more than a batch of the network
    ((_, stages),) = workers(spans)
    assert [span.name for span in stages] == STAGES
    decode, _, inference, _ = stages
    assert (decode.start_time or 0) < (inference.start_time or 0) < (decode.end_time or 0)
    assert 0 < attributes(decode)["radserve.seconds"] < seconds(decode)


def test_spans_hold_nothing_of_the_request(service: Classification, spans: InMemorySpanExporter) -> None:
    headers = {"X-Filename": "Doe.png", "X-Request-Id": "Doe-1", "url_path": "Doe", "traceparent": TRACEPARENT}
    ask(service, (film(), headers), (b"Doe", headers))
    keys = {"radserve.model", "radserve.version", "http.response.status_code", "radserve.seconds"}
    for span in spans.get_finished_spans():
        assert set(attributes(span)) <= keys
        assert "Doe" not in span.to_json()
        assert (span.events, span.links) == ((), ())


def test_a_server_error_marks_the_span(
    service: Classification, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "predict", lambda _: 1 / 0)
    ask(service, (film(), {}), (b"junk", {}))
    assert [worker.status.status_code for worker, _ in workers(spans)] == [StatusCode.ERROR, StatusCode.UNSET]


def test_a_fault_of_opentelemetry_costs_no_response_and_is_logged_once(
    service: Classification, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("opentelemetry.sdk.trace.Tracer.start_span", fail)
    tracing._failed.clear()
    for _ in range(2):
        ((status, _, _),) = ask(service, (film(), {}))
        assert status == 200
    assert [record.message for record in caplog.records if record.name == "handlers.tracing"] == [
        "OpenTelemetry failed: this request has no complete trace, and perhaps others have none"
    ]


def test_what_the_client_does_not_sample_is_not_sent(service: Classification, spans: InMemorySpanExporter) -> None:
    ((status, *_),) = ask(service, (film(), {"traceparent": f"00-{TRACE}-{PARENT}-00"}))
    assert (status, spans.get_finished_spans()) == (200, ())


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{TRACEPARENT}-more",
        f"{TRACEPARENT},{TRACEPARENT}",
        f"ff-{TRACE}-{PARENT}-01",
        "\u00e9" * 55,
        "\t" * 65536,
        TRACEPARENT + "-" * 65536,
    ],
)
def test_a_malformed_header_starts_a_new_trace(
    service: Classification, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    ((status, *_),) = ask(service, (film(), {"traceparent": header, "tracestate": header}))
    ((worker, _),) = workers(spans)
    assert (status, worker.parent) == (200, None)
    assert caplog.records == []


@pytest.mark.parametrize("state", ["vendor=1", "Doe", "vendor=Doe\x00", ",".join(f"v{n}=Doe" for n in range(99))])
def test_tracestate_is_neither_logged_nor_sent(
    service: Classification, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    ask(service, (film(), {"traceparent": TRACEPARENT, "tracestate": state}))
    ((worker, _),) = workers(spans)
    assert (format_trace_id(worker.context.trace_id), len(worker.context.trace_state)) == (TRACE, 0)
    assert caplog.records == []


@pytest.mark.parametrize(
    "variables",
    [{}, {ENDPOINT: ""}, {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "TRUE"}],
    ids=["nothing set", "empty", "disabled"],
)
def test_opentelemetry_is_not_imported_while_traces_are_off(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert tracing.environment() == {}
    loaded = loaded_by(
        "from handlers import tracing\n"
        "tracing.require_exporter()\n"
        "tracer = tracing.Tracer.create('x')\n"
        "tracer.record(tracing.Trace(), {}, 200, {})\n"
        "assert tracing.traceparent(tracer.start('x', {})) == ''\n"
        "tracer.close()"
    )
    assert "handlers.tracing" in loaded
    assert not {name for name in loaded if name.partition(".")[0] == "opentelemetry"}


@pytest.mark.parametrize("name", [ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_the_package_is_required_once_an_endpoint_is_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    tracing.require_exporter()
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    for function in (tracing.require_exporter, lambda: Tracer.create("x")):
        with pytest.raises(TracingError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT .* pip install 'radserve\[tracing\]'"):
            function()


def test_remaining_spans_are_sent_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        tracer = Tracer.create("radserve-test")
        tracer.end(tracer.start("some", {"traceparent": TRACEPARENT}), 200, {"key": "text"})
        tracer.close()
        (span,) = receiver.spans
    assert (span.service, span.name, span.trace, span.parent) == ("radserve-test", "some", TRACE, PARENT)
    assert span.attributes == {"key": "text", "http.response.status_code": 200}


def test_nothing_waits_for_a_collector_that_does_not_answer(
    brightness_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as receiver:
        receiver.answering.clear()
        monkeypatch.setenv(ENDPOINT, receiver.url)
        handler = Classification()
        handler.initialize(context(brightness_archive, []))
        for _ in range(600):  # a queue that is full enough to be sent at once
            handler.tracer.end(handler.tracer.start("some", {}), 200, {})
        ((status, *_),) = ask(handler, (film(), {}))
        handler.tracer.close()
        assert (status, receiver.spans) == (200, [])


def test_a_process_ends_while_the_collector_does_not_answer() -> None:
    with collector() as receiver:
        receiver.answering.clear()
        variables = {ENDPOINT: receiver.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        statement = "from handlers.tracing import Tracer; t = Tracer.create('x'); t.end(t.start('x', {}), 200, {})"
        # With OpenTelemetry's own handler of the exit, the process would wait for 30 seconds.
        subprocess.run([sys.executable, "-c", statement], env=os.environ | variables, cwd=ROOT, check=True, timeout=25)


def test_an_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with pytest.raises(TracingError, match="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        tracing.require_exporter()
