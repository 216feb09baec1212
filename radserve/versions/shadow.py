"""Copies of requests: both versions are asked, nobody gets the answers, and what they have in common is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

logger = logging.getLogger(__name__)

_WAITING: Final = 16
"""Copies that may wait; more are dropped and counted. At the longest body that is read they fill 700 MB."""
_WAITING_BYTES: Final = 256 * 1024 * 1024
_EXAMPLES: Final = 5
_TIMED: Final = 10_000
"""Answers, the last ones, whose seconds are kept."""
_PASSED_ON: Final = ("content-type", "content-encoding")
TOLERANCE: Final = 0.01
"""Figures that are closer than this agree, as for an archive's sample (`radserve.torchserve.sample_check`)."""


@dataclass(frozen=True)
class Copy:
    """One request of a client."""

    body: bytes
    headers: Mapping[str, str]
    request_id: str


@dataclass(frozen=True)
class Answered:
    """What a version answered to a copy: its status, its document, and after how many seconds."""

    status: int
    document: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Difference:
    """How two answers to one copy differ; `largest` is that of two figures, in [0, 1]."""

    agree: bool
    largest: float


def compare(stable: Answered, candidate: Answered) -> Difference:
    """Hold two answers against each other.

    They agree if both were refused with the same status, or if labels and `positive` are the same: what a doctor would
    read. How far figures differ (probabilities, the fraction that is marked) is said beside.
    """
    if stable.status != candidate.status:
        return Difference(agree=False, largest=1.0)
    pairs = list(zip(_answers(stable.document), _answers(candidate.document), strict=False))
    if len(_answers(stable.document)) != len(_answers(candidate.document)):
        return Difference(agree=False, largest=1.0)
    return Difference(
        agree=all(_read(one) == _read(other) for one, other in pairs),
        largest=max((_distance(one, other) for one, other in pairs), default=0.0),
    )


def _answers(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(document["predictions"]) if "predictions" in document else [document]


def _read(answer: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(answer.get(key) for key in ("label", "positive", "status"))


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    first, second = _figures(one), _figures(other)
    return max((abs(first[key] - second[key]) for key in first.keys() & second.keys()), default=0.0)


def _figures(answer: Mapping[str, Any]) -> dict[str, float]:
    area = answer.get("area", {})
    return dict(answer.get("probabilities", {})) | ({"fraction": area["fraction"]} if "fraction" in area else {})


def _words(answered: Answered) -> str:
    first = _answers(answered.document)[0] if answered.document else {}
    if "label" not in first:
        return f"{answered.status} {first.get('title', '')}".strip()
    figures = _figures(first)
    value = first.get("probability", figures.get("fraction"))
    return f"{first['label']} {value:.4f}" if isinstance(value, float) else str(first["label"])


@dataclass
class Report:
    """What the copies of one rollout showed.

    Attributes
    ----------
    copies
        That came; `dropped` of them since too many waited, `failed` since a version did not answer.
    """

    copies: int = 0
    dropped: int = 0
    failed: int = 0
    compared: int = 0
    agreeing: int = 0
    largest_difference: float = 0.0
    seconds: dict[str, deque[float]] = field(
        default_factory=lambda: {"stable": deque(maxlen=_TIMED), "candidate": deque(maxlen=_TIMED)}
    )
    examples: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=_EXAMPLES))

    def add(self, copy: Copy, stable: Answered, candidate: Answered) -> None:
        """Count two answers."""
        found = compare(stable, candidate)
        self.compared += 1
        self.agreeing += found.agree
        self.largest_difference = max(self.largest_difference, found.largest)
        self.seconds["stable"].append(stable.seconds)
        self.seconds["candidate"].append(candidate.seconds)
        if not found.agree:
            self.examples.append(
                {"request_id": copy.request_id, "stable": _words(stable), "candidate": _words(candidate)}
            )

    def document(self) -> dict[str, Any]:
        """Write it as clients read it."""
        return {
            "copies": self.copies,
            "compared": self.compared,
            "agreeing": self.agreeing,
            "dropped": self.dropped,
            "failed": self.failed,
            "largest_difference": self.largest_difference,
            "stable": _quantiles(self.seconds["stable"]),
            "candidate": _quantiles(self.seconds["candidate"]),
            "examples": list(self.examples),
        }


def _quantiles(seconds: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {f"p{part}": ordered[min(last, len(ordered) * part // 100)] if ordered else None for part in (50, 95)}


class Shadow:
    """Takes copies and asks both versions, one copy after the other, beside the real traffic.

    The stable version is asked anew rather than its answer taken from the client's request: both are asked under the
    same conditions, in turns as first, and nothing has to pass through this process on a client's way.
    """

    def __init__(self, url: str, name: str, stable: str, candidate: str) -> None:
        self.report = Report()
        self._client = httpx.AsyncClient(base_url=url, timeout=60.0)
        self._paths = {version: f"/predictions/{name}/{version}" for version in (stable, candidate)}
        self._stable, self._candidate = stable, candidate
        self._waiting: asyncio.Queue[Copy] = asyncio.Queue(_WAITING)
        self._bytes = 0
        self._task = asyncio.create_task(self._work())

    def take(self, copy: Copy) -> bool:
        """Take a copy, unless too many wait."""
        self.report.copies += 1
        if self._waiting.full() or self._bytes + len(copy.body) > _WAITING_BYTES:
            self.report.dropped += 1
            return False
        self._bytes += len(copy.body)
        self._waiting.put_nowait(copy)
        return True

    async def _work(self) -> None:
        swap = False
        while True:
            copy = await self._waiting.get()
            self._bytes -= len(copy.body)
            order = [self._stable, self._candidate]
            found: dict[str, Answered] = {}
            try:
                for version in reversed(order) if swap else order:
                    found[version] = await self._ask(version, copy)
                self.report.add(copy, found[self._stable], found[self._candidate])
            except (httpx.HTTPError, ValueError) as error:
                self.report.failed += 1
                logger.warning("a copy was not compared: %r", error)
            except Exception:  # an answer of a form that nobody expected: it counts, and the next copy is compared
                self.report.failed += 1
                logger.exception("a copy was not compared")
            swap = not swap

    async def _ask(self, version: str, copy: Copy) -> Answered:
        headers = {key: value for key, value in copy.headers.items() if key.lower() in _PASSED_ON}
        start = time.perf_counter()
        response = await self._client.post(
            self._paths[version], content=copy.body, headers=headers | {"accept": "application/json"}
        )
        return Answered(response.status_code, response.json(), time.perf_counter() - start)

    async def close(self) -> None:
        """Compare no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()
