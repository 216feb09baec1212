"""Counts requests, rejections, predictions and durations in a worker, and sends them to Prometheus by TorchServe.

TorchServe reads every number from a line of the worker's output, which costs the worker and Java some tens of
microseconds each; its own histograms take a line per observation and have fixed bounds (.005 to 10). This module
therefore counts with Prometheus' client and sends the changes every two seconds, whatever the load. A histogram is
sent as the counters that Prometheus stores: one for each upper bound `le`, a sum and a count. TorchServe drops every
metric that radserve/torchserve/metrics.yaml does not list.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from handlers import distribution
from handlers.distribution import Bin, clean
from handlers.domain.assessment import Assessment, Status
from handlers.errors import RequestError
from handlers.recipe import Recipe

INTERVAL: Final = 2.0
"""Seconds from an observation to the next sending; Prometheus scrapes every 15."""
STAGES: Final = ("read", "prepare", "inference", "answer", "explain", "render", "handle")
"""Values of the label `stage`. Per batch: reading the requests, decoding and preprocessing, the network, and everything
together (`handle`); per image: the decision (`answer`), or that with its explanation (`explain`); per request: the
bytes of the response (`render`)."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REFERENCE: Final = "radserve_reference_share"
_TENTHS: Final = tuple(step / 10 for step in range(1, 11))

Series = tuple[str, tuple[str, ...]]
"""Name of a metric, and the values of its labels besides model_name and model_version."""


class Meter:
    """Counts for one model; sends to TorchServe once connected."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.registry = CollectorRegistry()
        self.requests = Counter("radserve_requests", "By status.", ["code"], registry=self.registry)
        self._rejections = Counter("radserve_refusals", "By reason.", ["code", "reason"], registry=self.registry)
        self._labels = Counter("radserve_labels", "Predictions.", ["label"], registry=self.registry)
        self._domain = Counter("radserve_domain", "Images by likeness.", ["status"], registry=self.registry)
        self._bins = Counter("radserve_distribution", "By bin.", ["kind", "bin"], registry=self.registry)
        self._stages = self._histogram("stage_seconds", _SECONDS, "stage")
        self.batch = self._histogram("batch_requests", (1, 2, 4, 8, 16, 32))
        self.images = self._histogram("request_images", (1, 2, 4, 8, 16, 32, 64))
        if recipe.task == "classification":
            self._probability = self._histogram("probability", _TENTHS)
        self._create_series()
        self._lock = threading.Lock()
        self._sent: dict[Series, float] = {}
        self._cache: Any = None
        self._timer: threading.Timer | None = None

    def _histogram(self, name: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"radserve_{name}", "Distribution.", labels, buckets=bounds, registry=self.registry)

    def _create_series(self) -> None:
        """Create every series that a model can have, at 0; this also bounds their number."""
        for label in self._recipe.labels:
            self._labels.labels(clean(label))
        self.requests.labels(200)
        for error in _subclasses(RequestError):
            self._rejections.labels(error.status, error.reason)
            self.requests.labels(error.status)
        for status in get_args(Status):
            self._domain.labels(status)
        for stage in STAGES:
            self._stages.labels(stage)
        for kind, name in distribution.bins(self._recipe):
            self._bins.labels(kind, name)

    def connect(self, cache: Any, reference: Mapping[Bin, float] | None = None) -> None:
        """Send to TorchServe's `context.metrics` from now on; None outside of TorchServe sends nothing.

        Every series starts at 0: one that started with its first rejection would show no increase by it. Counts of
        the warm-up are dropped. `reference` has the shares of the bins among the validation images.
        """
        if cache is not None:
            self._cache = cache
            self._sent = self.series()
            self._emit(dict.fromkeys(self._sent, 0.0))
            self._emit({(_REFERENCE, labels): share for labels, share in (reference or {}).items()}, "gauge")

    def time(self, stage: str) -> AbstractContextManager[object]:
        """Observe the duration of one of `STAGES`."""
        return self._stages.labels(stage).time()

    def rejection(self, error: RequestError) -> None:
        """Count an image, or a whole request, without a prediction."""
        self._rejections.labels(error.status, error.reason).inc()

    def prediction(self, document: Mapping[str, Any]) -> None:
        """Count the label and the probability of an image; see `handlers.distribution`.

        A shift of either indicates that the images, or the model, changed.
        """
        bins = distribution.of_prediction(self._recipe, document)  # an invalid prediction is not counted in part
        probability = distribution.probability(self._recipe, document) if "probabilities" in document else None
        self._labels.labels(clean(document["label"])).inc()
        for kind, name in bins:
            self._bins.labels(kind, name).inc()
        if probability is not None:
            self._probability.observe(probability)

    def assessment(self, assessment: Assessment) -> None:
        """Count how alike an image is to the training images, also if it is rejected for that."""
        percentile = distribution.of_percentile(assessment.percentile)
        self._domain.labels(assessment.status).inc()
        self._bins.labels(*percentile).inc()

    def schedule_send(self) -> None:
        """Send the counts within `INTERVAL`."""
        if self._cache is not None and self._timer is None:
            self._timer = threading.Timer(INTERVAL, self.send)
            self._timer.daemon = True
            self._timer.start()

    def send(self) -> None:
        """Send the counts since the last sending."""
        self._timer = None  # before the counts are read, so that later ones start a new timer
        if self._cache is not None:
            with self._lock:
                before, self._sent = self._sent, self.series()
            changes = {series: value - before.get(series, 0) for series, value in self._sent.items()}
            self._emit({series: change for series, change in changes.items() if change})

    def series(self) -> dict[Series, float]:
        """Return the value of every series of Prometheus."""
        values = {}
        for metric in self.registry.collect():
            for sample in metric.samples:
                labels = dict(sample.labels)
                if "le" in labels:
                    labels["le"] = labels["le"].removesuffix(".0")  # as in the series of earlier versions
                values[sample.name, tuple(labels.values())] = sample.value
        return values

    def _emit(self, values: Mapping[Series, float], kind: str = "counter") -> None:
        from ts.metrics.metric_type_enum import MetricTypes  # only TorchServe's processes have it

        # An archive may be newer than its server: metrics that the server does not list are not sent.
        listed = set(self._cache.cache_keys())
        for (name, labels), value in values.items():
            if f"{kind}:{name}" in listed:
                metric = self._cache.get_metric(name, MetricTypes(kind))
                metric.add_or_update(value, [self._recipe.name, self._recipe.version, *labels])


def _subclasses(root: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _subclasses(kind)
