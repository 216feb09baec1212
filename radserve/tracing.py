"""Traces of requests, for packages that do not import handlers."""

from handlers.tracing import Tracer as Tracer  # noqa: PLC0414
from handlers.tracing import require_exporter as require_exporter  # noqa: PLC0414
from handlers.tracing import traceparent as traceparent  # noqa: PLC0414
