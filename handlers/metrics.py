"""Counts requests, rejections, predictions and durations in a worker, and sends them to Prometheus by TorchServe.

TorchServe reads every number from a line of the worker's output, which costs the worker and Java some tens of
microseconds each; its own histograms take a line per observation and have fixed bounds (.005 to 10). This module
therefore adds up and sends the changes every two seconds, whatever the load. A histogram is sent as the counters that
Prometheus stores: one for each upper bound `le`, a sum and a count. TorchServe drops every metric that
radserve/torchserve/metrics.yaml does not list.
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from handlers.errors import RequestError
from handlers.recipe import Recipe

INTERVAL: Final = 2.0
"""Seconds from an observation to the next sending; Prometheus scrapes every 15."""
STAGES: Final = ("read", "prepare", "inference", "answer", "explain", "render", "handle")
"""Values of the label `stage`. Per batch: reading the requests, decoding and preprocessing, the network, and everything
together (`handle`); per image: the decision (`answer`), or that with its explanation (`explain`); per request: the
bytes of the response (`render`)."""
COUNTERS: Final = {
    "radserve_requests_total": ("code",),
    "radserve_refusals_total": ("code", "reason"),
    "radserve_labels_total": ("label",),
}
"""Counter -> its labels besides model_name and model_version."""


@dataclass(frozen=True)
class Histogram:
    """A distribution: its labels besides model_name and model_version, and the upper bounds of its buckets."""

    name: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE: Final = Histogram("radserve_stage_seconds", ("stage",), _SECONDS)
PROBABILITY: Final = Histogram("radserve_probability", (), tuple(step / 10 for step in range(1, 11)))
BATCH: Final = Histogram("radserve_batch_requests", (), (1, 2, 4, 8, 16, 32))
IMAGES: Final = Histogram("radserve_request_images", (), (1, 2, 4, 8, 16, 32, 64))
HISTOGRAMS: Final = (STAGE, PROBABILITY, BATCH, IMAGES)

Labels = tuple[str, ...]


@dataclass
class Distribution:
    """Observations of a histogram: their number in each bucket, the last one without bound, and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass
class Tally:
    """Everything counted since the last sending."""

    counters: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    distributions: dict[tuple[Histogram, Labels], Distribution] = field(default_factory=dict)

    def observe(self, histogram: Histogram, labels: Labels, value: float) -> None:
        """Add a value to a histogram; like Prometheus' `le`, a bucket includes its bound."""
        distribution = self.distribution(histogram, labels)
        distribution.counts[bisect_left(histogram.bounds, value)] += 1
        distribution.total += value

    def distribution(self, histogram: Histogram, labels: Labels) -> Distribution:
        """Return the observations of a histogram with these labels; empty ones where there were none."""
        empty = Distribution([0] * (len(histogram.bounds) + 1))
        return self.distributions.setdefault((histogram, labels), empty)

    def increments(self) -> Iterator[tuple[str, Labels, float]]:
        """Yield name, labels and increment of each of Prometheus' series."""
        for (name, labels), count in self.counters.items():
            yield name, labels, count
        for (histogram, labels), distribution in self.distributions.items():
            bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
            cumulative = list(accumulate(distribution.counts))
            for bound, count in zip(bounds, cumulative, strict=True):
                yield f"{histogram.name}_bucket", (*labels, bound), count
            yield f"{histogram.name}_count", labels, cumulative[-1]
            yield f"{histogram.name}_sum", labels, distribution.total


class Meter:
    """Counts for one model; sends to TorchServe once connected."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._tally = Tally()
        self._lock = threading.Lock()
        self._cache: Any = None
        self._listed: frozenset[str] = frozenset()
        self._timer: threading.Timer | None = None

    def connect(self, cache: Any) -> None:
        """Send to TorchServe's `context.metrics` from now on; None outside of TorchServe sends nothing.

        Every series starts at 0: one that started with its first rejection would show no increase by it. Counts of
        the warm-up are dropped.
        """
        if cache is None:
            return
        self._tally = Tally()
        self._cache = cache
        # An archive may be newer than its server: metrics that the server does not list are not sent.
        self._listed = frozenset(key.removeprefix("counter:") for key in cache.cache_keys())
        self._emit(_zeros(self._recipe), zero=True)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Observe the duration of one of `STAGES`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._observe(STAGE, (stage,), time.perf_counter() - start)

    def batch(self, requests: int) -> None:
        """Observe the number of requests of a batch."""
        self._observe(BATCH, (), requests)

    def images(self, count: int) -> None:
        """Observe the number of images of a request."""
        self._observe(IMAGES, (), count)

    def request(self, status: int) -> None:
        """Count a request by the status of its response."""
        self._count("radserve_requests_total", str(status))

    def rejection(self, error: RequestError) -> None:
        """Count an image, or a whole request, without a prediction."""
        self._count("radserve_refusals_total", str(error.status), error.reason)

    def prediction(self, document: Mapping[str, Any]) -> None:
        """Count the label of an image, and observe the probability of the positive label, else of the predicted one.

        A shift of either indicates that the images, or the model, changed.
        """
        self._count("radserve_labels_total", _clean(document["label"]))
        if "probabilities" in document:
            decision = self._recipe.decision
            label = document["label"] if decision is None else decision.positive
            self._observe(PROBABILITY, (), document["probabilities"][label])

    def schedule_send(self) -> None:
        """Send the counts within `INTERVAL`."""
        if self._cache is not None and self._timer is None:
            self._timer = threading.Timer(INTERVAL, self.send)
            self._timer.daemon = True
            self._timer.start()

    def send(self) -> None:
        """Send the counts since the last sending."""
        self._timer = None  # before the exchange, so that later counts start a new timer
        with self._lock:
            tally, self._tally = self._tally, Tally()
        if self._cache is not None:
            self._emit(tally)

    def _count(self, name: str, *labels: str) -> None:
        with self._lock:
            self._tally.counters[name, labels] += 1

    def _observe(self, histogram: Histogram, labels: Labels, value: float) -> None:
        with self._lock:
            self._tally.observe(histogram, labels, value)

    def _emit(self, tally: Tally, *, zero: bool = False) -> None:
        model = [self._recipe.name, self._recipe.version]
        for name, labels, value in tally.increments():
            if name in self._listed and (value or zero):
                self._cache.get_metric(name).add_or_update(value, [*model, *labels])


def _zeros(recipe: Recipe) -> Tally:
    """Return every series that a model can have, at 0; this also bounds their number."""
    tally = Tally()
    for label in recipe.labels:
        tally.counters["radserve_labels_total", (_clean(label),)] = 0
    tally.counters["radserve_requests_total", ("200",)] = 0
    for error in _subclasses(RequestError):
        tally.counters["radserve_refusals_total", (str(error.status), error.reason)] = 0
        tally.counters["radserve_requests_total", (str(error.status),)] = 0
    for histogram in HISTOGRAMS:
        if histogram is not PROBABILITY or recipe.task == "classification":
            for labels in [(stage,) for stage in STAGES] if histogram is STAGE else [()]:
                tally.distribution(histogram, labels)
    return tally


def _subclasses(root: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _clean(label: str) -> str:
    """Replace the delimiters of TorchServe's lines in a label."""
    return re.sub(r"[\s,:|#]+", " ", label).strip()
