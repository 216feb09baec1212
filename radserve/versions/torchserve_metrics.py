"""Reads requests, errors and latency of each version from TorchServe's metrics (handlers/metrics.py)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from radserve.torchserve.registry import Pair

_REQUESTS: Final = "radserve_requests_total"
_SECONDS: Final = ("radserve_stage_seconds_bucket", "radserve_stage_seconds_bucket_total")


@dataclass
class VersionMetrics:
    """Counts of one version since its first worker started; workers report every two seconds."""

    requests: float = 0
    errors: float = 0  # answered with 5xx
    rejections: float = 0  # answered with 4xx
    buckets: dict[float, float] = field(default_factory=dict)  # batches answered within a number of seconds

    def count(self, code: str, value: float) -> None:
        """Add requests that were answered with an HTTP status code."""
        self.requests += value
        if code >= "500":
            self.errors += value
        elif code >= "400":
            self.rejections += value

    def quantile(self, q: float) -> float | None:
        """Estimate a quantile of the seconds per batch, as Prometheus' `histogram_quantile` does."""
        bounds = sorted(self.buckets)
        total = self.buckets[bounds[-1]] if bounds else 0.0
        if not total:
            return None
        lower, below = 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= q * total:
                break
            lower, below = bound, count
        if bound == float("inf"):
            return lower
        return lower + (bound - lower) * (q * total - below) / max(count - below, 1e-9)


def parse(text: str) -> Mapping[Pair, VersionMetrics]:
    """Parse TorchServe's metrics in Prometheus' text format."""
    metrics: defaultdict[Pair, VersionMetrics] = defaultdict(VersionMetrics)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            pair = sample.labels.get("model_name", ""), sample.labels.get("model_version", "")
            if sample.name == _REQUESTS:
                metrics[pair].count(sample.labels["code"], sample.value)
            elif sample.name in _SECONDS and sample.labels["stage"] == "handle":
                metrics[pair].buckets[float(sample.labels["le"])] = sample.value
    return metrics
