"""What a worker counts of its answers, and how that reaches Prometheus: through TorchServe, summed up first.

TorchServe reads every figure from a line of the worker's output, which costs the worker and Java some tens of
microseconds each; its own histograms take a line an observation and have fixed bounds (.005 to 10). So this
module counts by itself and sends what has changed every two seconds, whatever the load; a histogram goes out as
what Prometheus reads it as: counters by upper bound `le`, a sum and a count. What is sent has to stand in
radserve/torchserve/metrics.yaml, or TorchServe drops it.
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

from handlers.errors import InternalError, RequestError
from handlers.recipe import Recipe

INTERVAL: Final = 2.0
"""Seconds from a first observation until all since then are sent; Prometheus comes by every 15."""
STAGES: Final = ("read", "prepare", "inference", "answer", "explain", "render", "handle")
"""Of a batch: reading the requests, decoding and preprocessing, the network, and all together (`handle`); of an
image: the decision (`answer`), or that with its explanation (`explain`); of a request: its bytes (`render`)."""
COUNTERS: Final = {
    "radserve_requests_total": ("code",),
    "radserve_refusals_total": ("code", "reason"),
    "radserve_labels_total": ("label",),
}
"""Counter -> its labels beside model_name and model_version."""


@dataclass(frozen=True)
class Histogram:
    """A distribution: its labels beside model_name and model_version, and the upper bounds of its buckets."""

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
    """What was observed of a histogram: how many values in each bucket, the last one without bound, and their sum."""

    counts: list[int]
    total: float = 0.0

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        """Observe a value; a bucket holds what equals its bound, as Prometheus' `le` says."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value


@dataclass
class Tally:
    """All that was counted since it was last sent."""

    counters: Counter[tuple[str, Labels]] = field(default_factory=Counter)
    distributions: dict[tuple[Histogram, Labels], Distribution] = field(default_factory=dict)

    def observe(self, histogram: Histogram, labels: Labels, value: float) -> None:
        """Add a value to a histogram."""
        self.distribution(histogram, labels).add(value, histogram.bounds)

    def distribution(self, histogram: Histogram, labels: Labels) -> Distribution:
        """Return what was observed of a histogram with these labels."""
        fresh = Distribution([0] * (len(histogram.bounds) + 1))
        return self.distributions.setdefault((histogram, labels), fresh)

    def increments(self) -> Iterator[tuple[str, Labels, float]]:
        """Say by how much each of Prometheus' series grows: its name, its labels, the increment."""
        for (name, labels), count in self.counters.items():
            yield name, labels, count
        for (histogram, labels), found in self.distributions.items():
            bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
            reached = list(accumulate(found.counts))
            for bound, count in zip(bounds, reached, strict=True):
                yield f"{histogram.name}_bucket", (*labels, bound), count
            yield f"{histogram.name}_count", labels, reached[-1]
            yield f"{histogram.name}_sum", labels, found.total


class Meter:
    """Counts for one model, and sends to TorchServe once it is connected."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._tally = Tally()
        self._lock = threading.Lock()
        self._cache: Any = None
        self._known: frozenset[str] = frozenset()
        self._timer: threading.Timer | None = None

    def connect(self, cache: Any) -> None:
        """Send to TorchServe's `context.metrics` from now on; None where there is no TorchServe.

        Every series begins at 0: one that began at its first refusal would show no increase by it. What was
        counted before, while the worker warmed up, is dropped.
        """
        if cache is None:
            return
        self._tally = Tally()
        self._cache = cache
        # An archive may be newer than the server that it runs under: what that does not know is not sent.
        self._known = frozenset(key.removeprefix("counter:") for key in cache.cache_keys())
        self._emit(_zeros(self._recipe), zero=True)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Observe how long one of `STAGES` takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._observe(STAGE, (stage,), time.perf_counter() - start)

    def batch(self, requests: int) -> None:
        """Observe of how many requests TorchServe made a batch."""
        self._observe(BATCH, (), requests)

    def images(self, count: int) -> None:
        """Observe how many images a request has."""
        self._observe(IMAGES, (), count)

    def request(self, status: int) -> None:
        """Count a request by the status that it is answered with."""
        self._count("radserve_requests_total", str(status))

    def refusal(self, error: RequestError) -> None:
        """Count an image, or a request as a whole, that got no answer."""
        self._count("radserve_refusals_total", *_reason(type(error)))

    def answer(self, document: Mapping[str, Any]) -> None:
        """Count the label that an image got, and observe its probability: that of the positive label if there is one.

        A shift of either says that the images, or the model, are no longer what they were.
        """
        self._count("radserve_labels_total", _clean(document["label"]))
        if "probabilities" in document:
            decision = self._recipe.decision
            label = document["label"] if decision is None else decision.positive
            self._observe(PROBABILITY, (), document["probabilities"][label])

    def later(self) -> None:
        """See to it that what was counted is sent within `INTERVAL`."""
        if self._cache is not None and self._timer is None:
            self._timer = threading.Timer(INTERVAL, self.send)
            self._timer.daemon = True
            self._timer.start()

    def send(self) -> None:
        """Send what was counted since the last time."""
        self._timer = None  # before the exchange: what is counted after it is nobody's yet
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
            if name in self._known and (value or zero):
                self._cache.get_metric(name).add_or_update(value, [*model, *labels])


def _zeros(recipe: Recipe) -> Tally:
    """Hold every series that a model can have, at 0: their number is bounded by this."""
    tally = Tally()
    for label in recipe.labels:
        tally.counters["radserve_labels_total", (_clean(label),)] = 0
    tally.counters["radserve_requests_total", ("200",)] = 0
    for error in _kinds(RequestError):
        tally.counters["radserve_refusals_total", _reason(error)] = 0
        tally.counters["radserve_requests_total", (str(error.status),)] = 0
    for histogram in HISTOGRAMS:
        if histogram is not PROBABILITY or recipe.task == "classification":
            for labels in [(stage,) for stage in STAGES] if histogram is STAGE else [()]:
                tally.distribution(histogram, labels)
    return tally


def _kinds(root: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _reason(kind: type[RequestError]) -> Labels:
    return str(kind.status), kind.__name__.removesuffix("Error") if kind is not InternalError else "InternalError"


def _clean(label: str) -> str:
    """Take out of a label what delimits TorchServe's lines."""
    return re.sub(r"[\s,:|#]+", " ", label).strip()
