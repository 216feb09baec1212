"""Compares a candidate with the stable version on copies of requests; no client receives the responses."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from radserve.host.background import observe
from radserve.schema import rollout as schema
from radserve.torchserve.connection import connect
from radserve.versions.distribution_shift import is_significant, population_stability_index

logger = logging.getLogger(__name__)

_MAX_QUEUED: Final = 16  # copies that may wait; further ones are dropped and counted
_MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
_MAX_EXAMPLES: Final = 5
_MAX_TIMINGS: Final = 10_000  # the latest responses, whose seconds are kept
_MIN_IMAGES: Final = 200  # without a significant difference; a few images often have a high index by chance
Outcomes = Counter[tuple[str, str]]
"""Images by kind of value and value, such as `label` and `pneumonia`."""
_FORWARDED_HEADERS: Final = ("content-type", "content-encoding", "x-assurances", "x-repair")


@dataclass(frozen=True)
class CopiedRequest:
    """A copy of a client's request."""

    body: bytes
    headers: Mapping[str, str]
    request_id: str


@dataclass(frozen=True)
class VersionResponse:
    """The response of one version to a copy: HTTP status, document, and seconds until it arrived."""

    status: int
    document: Mapping[str, Any]
    seconds: float

    @property
    def predictions(self) -> list[Mapping[str, Any]]:
        """The predictions; a document of another kind counts as one."""
        return list(self.document["predictions"]) if "predictions" in self.document else [self.document]

    def summary(self) -> str:
        """Describe the first prediction, or the problem, in a few words."""
        first = self.predictions[0] if self.document else {}
        if "label" not in first:
            return f"{self.status} {first.get('title', '')}".strip()
        values = _values(first)
        value = first.get("probability", values.get("fraction"))
        return f"{first['label']} {value:.4f}" if isinstance(value, float) else str(first["label"])


def compare(stable: VersionResponse, candidate: VersionResponse) -> tuple[bool, float]:
    """Return whether two responses to a request agree: they have the same error status, or the same labels.

    The second value is the largest difference between two probabilities or marked fractions, in [0, 1].
    """
    ours, theirs = stable.predictions, candidate.predictions
    if stable.status != candidate.status or len(ours) != len(theirs):
        return False, 1.0
    pairs = list(zip(ours, theirs, strict=True))
    return (
        all(one.get(key) == other.get(key) for one, other in pairs for key in ("label", "positive", "status")),
        max((_distance(one, other) for one, other in pairs), default=0.0),
    )


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    first, second = _values(one), _values(other)
    return max((abs(first[key] - second[key]) for key in first.keys() & second.keys()), default=0.0)


def _values(prediction: Mapping[str, Any]) -> dict[str, float]:
    area = prediction.get("area", {})
    return dict(prediction.get("probabilities", {})) | ({"fraction": area["fraction"]} if "fraction" in area else {})


@dataclass
class ShadowReport:
    """Counts and examples of the comparison; see `radserve.schema.rollout.ShadowReport`."""

    copies: int = 0
    dropped: int = 0
    failed: int = 0
    compared: int = 0
    agreeing: int = 0
    largest_difference: float = 0.0
    stable_outcomes: Outcomes = field(default_factory=Outcomes)
    candidate_outcomes: Outcomes = field(default_factory=Outcomes)
    stable_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_TIMINGS))
    candidate_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_TIMINGS))
    examples: deque[schema.ShadowExample] = field(default_factory=lambda: deque(maxlen=_MAX_EXAMPLES))

    def add(self, copy: CopiedRequest, stable: VersionResponse, candidate: VersionResponse) -> None:
        """Compare and count two responses."""
        agree, difference = compare(stable, candidate)
        outcomes, candidate_outcomes = _outcomes(stable), _outcomes(candidate)  # a malformed response counts nowhere
        example = schema.ShadowExample(
            request_id=copy.request_id, stable=stable.summary(), candidate=candidate.summary()
        )
        self.compared += 1
        self.agreeing += agree
        self.largest_difference = max(self.largest_difference, difference)
        self.stable_outcomes.update(outcomes)
        self.candidate_outcomes.update(candidate_outcomes)
        self.stable_seconds.append(stable.seconds)
        self.candidate_seconds.append(candidate.seconds)
        if not agree:
            self.examples.append(example)

    def document(self) -> schema.ShadowReport:
        """Return the report as the control API represents it."""
        latencies = {"stable": _latency(self.stable_seconds), "candidate": _latency(self.candidate_seconds)}
        images, shifts = {}, {}
        for kind in sorted({kind for kind, _ in self.stable_outcomes | self.candidate_outcomes}):
            counts, reference = _of_kind(kind, self.candidate_outcomes), _of_kind(kind, self.stable_outcomes)
            images[kind] = min(counts.total(), reference.total())
            if images[kind] >= _MIN_IMAGES or is_significant(counts, reference):
                shifts[kind] = round(population_stability_index(counts, reference), 4)
        return schema.ShadowReport.model_validate(vars(self) | latencies | {"images": images, "shifts": shifts})


def _of_kind(kind: str, outcomes: Outcomes) -> Counter[str]:
    return Counter({value: count for (other, value), count in outcomes.items() if other == kind})


def _outcomes(response: VersionResponse) -> Outcomes:
    """Count labels and domain statuses, and probabilities and percentiles in tenths, also of rejected images."""
    outcomes = Outcomes()
    for prediction in response.predictions:
        domain, probability = prediction.get("domain", {}), prediction.get("probability")
        if probability is not None and prediction.get("positive") is False:
            probability = 1 - probability  # of the positive label
        percentile = domain.get("percentile")
        values = {
            "label": prediction.get("label"),
            "probability": _tenth(probability),
            "domain": domain.get("status"),
            "percentile": None if percentile is None else _tenth(percentile / 100),
        }
        outcomes.update((kind, value) for kind, value in values.items() if value is not None)
    return outcomes


def _tenth(value: float | None) -> str | None:
    return None if value is None else str(min(int(10 * value), 9))


def _latency(seconds: Iterable[float]) -> schema.Latency:
    ordered = sorted(seconds)
    if not ordered:
        return schema.Latency()
    last = len(ordered) - 1
    return schema.Latency(p50=ordered[min(last, len(ordered) // 2)], p95=ordered[min(last, len(ordered) * 95 // 100)])


class ShadowComparison:
    """Sends copies to both versions, one copy after the other, independently of the clients' traffic.

    The stable version answers each copy again, rather than its response being taken from the client's request: both
    versions respond under the same conditions, alternately first, and no client waits for this process.
    """

    def __init__(self, inference: Path, name: str, stable: str, candidate: str) -> None:
        self.report = ShadowReport()
        self._client = connect(inference, timeout=60.0)
        self._name, self._stable, self._candidate = name, stable, candidate
        self._queue: asyncio.Queue[CopiedRequest] = asyncio.Queue(_MAX_QUEUED)
        self._queued_bytes = 0
        self._task = observe(asyncio.create_task(self._work()), "shadow comparison")

    def add(self, copy: CopiedRequest) -> bool:
        """Queue a copy; return False if too many are waiting."""
        self.report.copies += 1
        if self._queue.full() or self._queued_bytes + len(copy.body) > _MAX_QUEUED_BYTES:
            self.report.dropped += 1
            return False
        self._queued_bytes += len(copy.body)
        self._queue.put_nowait(copy)
        return True

    async def _work(self) -> None:
        order = [self._stable, self._candidate]
        while True:
            copy = await self._queue.get()
            self._queued_bytes -= len(copy.body)
            try:
                responses = {version: await self._send(version, copy) for version in order}
                self.report.add(copy, responses[self._stable], responses[self._candidate])
            except Exception as error:  # also a response of an unknown form: count it and continue
                self.report.failed += 1
                expected = isinstance(error, httpx.HTTPError | ValueError)
                logger.warning("a copied request was not compared: %r", error, exc_info=not expected)
            order.reverse()

    async def _send(self, version: str, copy: CopiedRequest) -> VersionResponse:
        headers = {key: value for key, value in copy.headers.items() if key.lower() in _FORWARDED_HEADERS}
        start = time.perf_counter()
        response = await self._client.post(
            f"/predictions/{self._name}/{version}",
            content=copy.body,
            headers=headers | {"accept": "application/json"},
        )
        return VersionResponse(response.status_code, response.json(), time.perf_counter() - start)

    async def close(self) -> None:
        """Stop comparing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()
