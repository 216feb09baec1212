"""What TorchServe counted of each version, out of its metrics (handlers/metrics.py): requests, errors, latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from radserve.torchserve.registry import Pair

_REQUESTS: Final = "radserve_requests_total"
_SECONDS: Final = "radserve_stage_seconds_bucket"
_STAGE: Final = "handle"


@dataclass
class Figures:
    """Of one version, since its first worker started; workers send what they counted every two seconds.

    Attributes
    ----------
    errors, refusals
        Requests answered with 5xx and with 4xx.
    buckets
        Upper bound in seconds -> batches that a worker answered within it.
    """

    requests: float = 0
    errors: float = 0
    refusals: float = 0
    buckets: dict[float, float] = field(default_factory=dict)

    def quantile(self, part: float) -> float | None:
        """Estimate how long that part of the batches took at most, as Prometheus' histogram_quantile does."""
        bounds = sorted(self.buckets)
        total = self.buckets[bounds[-1]] if bounds else 0.0
        if not total:
            return None
        below, before = 0.0, 0.0
        for bound in bounds:
            count = self.buckets[bound]
            if count >= part * total:
                if bound == float("inf"):
                    return below
                return below + (bound - below) * (part * total - before) / max(count - before, 1e-9)
            below, before = bound, count
        return below


def read(text: str) -> Mapping[Pair, Figures]:
    """Read TorchServe's metrics."""
    found: defaultdict[Pair, Figures] = defaultdict(Figures)
    for family in text_string_to_metric_families(text):
        for item in family.samples:
            pair = item.labels.get("model_name", ""), item.labels.get("model_version", "")
            if item.name == _REQUESTS:
                _count(found[pair], item.labels["code"], item.value)
            elif item.name in (_SECONDS, f"{_SECONDS}_total") and item.labels["stage"] == _STAGE:
                found[pair].buckets[float(item.labels["le"])] = item.value
    return found


def _count(figures: Figures, code: str, value: float) -> None:
    figures.requests += value
    if code >= "500":
        figures.errors += value
    elif code >= "400":
        figures.refusals += value
