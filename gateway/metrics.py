"""What the gateway tells Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY: Final = CollectorRegistry()

REQUESTS: Final = Counter(
    "radserve_gateway_requests", "Requests, by route and status.", ["route", "method", "status"], registry=REGISTRY
)
SECONDS: Final = Histogram(
    "radserve_gateway_request_seconds",
    "Seconds from a request to its answer, by route.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
RATE: Final = Counter(
    "radserve_gateway_rate",
    "Requests that the limits refused, or that were let through uncounted since their storage is down.",
    ["outcome"],
    registry=REGISTRY,
)
HISTORY: Final = Counter(
    "radserve_gateway_results", "Results, by what became of them: kept or lost.", ["outcome"], registry=REGISTRY
)
for _outcome in ("kept", "lost"):
    HISTORY.labels(outcome=_outcome)  # from 0 on: of a series that begins at 1 Prometheus sees no increase
HISTORY_UP: Final = Gauge(
    "radserve_gateway_history_up", "Whether results can be kept; absent where none are.", ["store"], registry=REGISTRY
)
IMAGES: Final = Counter(
    "radserve_gateway_images",
    "Images of results, by what became of them: kept or lost.",
    ["outcome"],
    registry=REGISTRY,
)
