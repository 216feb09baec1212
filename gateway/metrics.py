"""Prometheus metrics of the gateway."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from radserve.host.background import FAILURES

REGISTRY: Final = CollectorRegistry()
REGISTRY.register(FAILURES)

REQUESTS: Final = Counter(
    "radserve_gateway_requests",
    "Requests by route, method and status.",
    ["route", "method", "status"],
    registry=REGISTRY,
)
SECONDS: Final = Histogram(
    "radserve_gateway_request_seconds",
    "Duration of requests in seconds, by route.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
DISCARDED: Final = Counter(
    "radserve_gateway_discarded",
    "Predictions of the model server that were discarded because they are about other images than the request.",
    registry=REGISTRY,
)
RATE: Final = Counter(
    "radserve_gateway_rate",
    "Requests that were refused by a rate limit, or not counted because the storage is unavailable.",
    ["outcome"],
    registry=REGISTRY,
)
HISTORY: Final = Counter(
    "radserve_gateway_results", "Results by outcome: kept or lost.", ["outcome"], registry=REGISTRY
)
for _outcome in ("kept", "lost"):
    HISTORY.labels(outcome=_outcome)  # Prometheus sees no increase in a series that begins at 1
HISTORY_UP: Final = Gauge(
    "radserve_gateway_history_up", "Whether the history is available; absent without one.", ["store"], registry=REGISTRY
)
IMAGES: Final = Counter(
    "radserve_gateway_images", "Images of results by outcome: kept or lost.", ["outcome"], registry=REGISTRY
)
