"""Metrics of the loop (docs/pacs.md)."""

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from radserve.pacs.queue import Queue

RECEIVED: Final = Counter("radserve_pacs_objects", "Objects received, by outcome.", ["outcome"], registry=None)
SECONDS: Final = Histogram("radserve_pacs_seconds", "Duration of a try, by step.", ["step"], registry=None)
FAILURES: Final = Counter("radserve_pacs_failures", "Failed tries, by step.", ["step"], registry=None)
RESULTS: Final = Counter("radserve_pacs_results", "Objects stored at a destination.", registry=None)
POLLED: Final = Gauge(
    "radserve_pacs_polled_timestamp_seconds",
    "Last successful poll, by source; before the first, the start.",
    ["source"],
    registry=None,
)
EVERY: Final = Gauge("radserve_pacs_poll_seconds", "Setting `every`, by source.", ["source"], registry=None)


class _QueueMetrics:
    """What the queue holds."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the current values."""
        jobs = GaugeMetricFamily("radserve_pacs_jobs", "Jobs in the queue, by state.", labels=["state"])
        for state, number in self._queue.counts().items():
            jobs.add_metric([state], number)
        yield jobs
        since = self._queue.waiting_since()
        age = 0.0 if since is None else max(0.0, time.time() - since)
        yield GaugeMetricFamily("radserve_pacs_oldest_seconds", "Age of the oldest unfinished job.", value=age)
        yield GaugeMetricFamily("radserve_pacs_webhooks", "Undelivered messages.", value=self._queue.notices())


def registry(queue: Queue) -> CollectorRegistry:
    """Return all metrics."""
    result = CollectorRegistry()
    for collector in (RECEIVED, SECONDS, FAILURES, RESULTS, POLLED, EVERY, _QueueMetrics(queue)):
        result.register(collector)
    return result
