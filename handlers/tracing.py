"""Traces requests with OpenTelemetry if its variables name a collector; otherwise this module does not import it.

Spans hold names, times, model, version, route and status: nothing of an image, no file name, path or query. A thread
sends them from a bounded queue, and drops them while the collector does not respond; no request waits for it.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from handlers.errors import TracingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_ENDPOINTS: Final = (f"{_PREFIX}ENDPOINT", f"{_PREFIX}TRACES_ENDPOINT")
_DELAY: Final = 1000
"""Milliseconds until a span is sent, so a worker that ends loses those of its last second."""
_CLOSE_SECONDS: Final = 2.0
_HEADER: Final = "traceparent"
_MAX_HEADER: Final = 512
"""Characters of the header that are read; OpenTelemetry logs a warning about longer ones."""
_failed: Final = threading.Event()


def environment() -> dict[str, str]:
    """Return the variables of the exporter, which may contain credentials; none if traces are off."""
    variables = {name: text for name, text in os.environ.items() if name.startswith(_PREFIX)}
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return variables if any(map(variables.get, _ENDPOINTS)) and not disabled else {}


def require_exporter() -> None:
    """Raise TracingError if traces are on and cannot be sent."""
    if environment():
        _provider("").shutdown()


class Trace:
    """Times of one request and of its stages, in nanoseconds.

    A stage of several images is one span from the first to the last, and the time spent in it.
    """

    def __init__(self) -> None:
        self.start = time.time_ns()
        self.stages: dict[str, tuple[int, int, int]] = {}

    def add(self, name: str, start: int, end: int) -> None:
        """Add a part of a stage."""
        first, _, spent = self.stages.get(name, (start, end, 0))
        self.stages[name] = first, end, spent + end - start


@contextmanager
def stage(name: str, traces: Iterable[Trace]) -> Iterator[None]:
    """Measure a part of a stage that requests share."""
    start = time.time_ns()
    try:
        yield
    finally:
        end = time.time_ns()
        for trace in traces:
            trace.add(name, start, end)


@contextmanager
def _harmless() -> Iterator[None]:
    """Log a fault of OpenTelemetry, which must not cost a response."""
    try:
        yield
    except Exception:  # whatever its code raises: the prediction is complete
        if not _failed.is_set():  # once
            _failed.set()
            logger.exception("OpenTelemetry failed: this request has no complete trace, and perhaps others have none")


class Tracer:
    """Creates the spans of one service; none without a provider, or where OpenTelemetry fails."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._otel = None if provider is None else provider.get_tracer("radserve")

    @classmethod
    def create(cls, service: str) -> Self:
        """Create a tracer as the environment says; raises TracingError if spans cannot be sent."""
        return cls(_provider(service) if environment() else None)

    def start(self, name: str, headers: Mapping[str, str], start: int | None = None) -> "Span | None":
        """Start the span of a request, as a child of the client's if the headers name one.

        `tracestate` is not read, because OpenTelemetry logs the text of a malformed one.
        """
        if self._otel is None:
            return None
        span: Span | None = None
        with _harmless():
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            parent = TraceContextTextMapPropagator().extract({_HEADER: headers.get(_HEADER, "")[:_MAX_HEADER]})
            span = self._otel.start_span(name, parent, SpanKind.SERVER, start_time=start)
        return span  # noqa: RET504 - mypy does not know that exceptions end above

    def end(self, span: "Span | None", status: int, attributes: Mapping[str, str]) -> None:
        """End the span of a request by the status of its response."""
        if span is None:
            return
        with _harmless():
            from opentelemetry.trace import StatusCode

            span.set_attributes({**attributes, "http.response.status_code": status})
            if status >= 500:
                span.set_status(StatusCode.ERROR)
            span.end()

    def record(self, trace: Trace, headers: Mapping[str, str], status: int, attributes: Mapping[str, str]) -> None:
        """Send the span "worker" of a finished request and those of its stages."""
        span = self.start("worker", headers, trace.start)
        if span is None or self._otel is None:
            return
        with _harmless():
            from opentelemetry.trace import set_span_in_context

            context = set_span_in_context(span)
            for name, (start, end, spent) in trace.stages.items():
                seconds = {"radserve.seconds": spent / 1e9}
                self._otel.start_span(name, context, start_time=start, attributes=seconds).end(end)
        self.end(span, status, attributes)

    def close(self) -> None:
        """Send the remaining spans, within two seconds."""
        if self._provider is not None:
            thread = threading.Thread(target=self._provider.shutdown, daemon=True)
            thread.start()
            thread.join(_CLOSE_SECONDS)


def traceparent(span: "Span | None") -> str:
    """Return the header `traceparent` that makes the receiver's span a child of this one; empty without a span."""
    if span is None:
        return ""
    carrier: dict[str, str] = {}
    with _harmless():
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get(_HEADER, "")


def _provider(service: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": service})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # that can take 30 seconds
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=_DELAY))
    except ImportError as error:
        raise TracingError(
            f"{_ENDPOINTS[0]} or {_ENDPOINTS[1]} is set, but {error.name} is not installed. Run pip install "
            "'radserve[tracing]', or unset it to send no traces."
        ) from error
    except ValueError as error:
        raise TracingError(f"Invalid variable of OpenTelemetry: {error}") from error
    return provider
