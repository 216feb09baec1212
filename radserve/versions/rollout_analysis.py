"""Whether a rollout goes on, waits, or goes back: pure functions of what was observed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from radserve.schema.rollout import RolloutSpec

_LEAST_DIFFERENCE: Final = 0.025
"""Seconds by which a version must be slower before its ratio counts: below, noise doubles an answer of 3 ms."""
_LEAST_TIMED: Final = 20
"""Answers before a 95th percentile, or a part of them, says anything."""
_MORE_REFUSED: Final = 0.2
"""Part of the requests by which a version may refuse more than the one before: it may be stricter, not blind."""


@dataclass(frozen=True)
class Observed:
    """What was seen of a version in one step, as its clients had it.

    Attributes
    ----------
    errors
        Requests answered with 5xx.
    refusals
        Requests answered with 4xx.
    p95
        95th percentile of the seconds until the answer; None before any.
    """

    requests: int = 0
    errors: int = 0
    refusals: int = 0
    p95: float | None = None


class Verdict(Enum):
    """What is to be done."""

    GO = "go"
    WAIT = "wait"
    BACK = "back"


def judge(candidate: Observed, stable: Observed, plan: RolloutSpec, seconds: float) -> tuple[Verdict, str]:
    """Judge one step of a rollout.

    Parameters
    ----------
    candidate, stable
        What was seen of the new version and of the one before, in this step.
    seconds
        Since the step began.

    Returns
    -------
    What to do, and why.
    """
    wrong = _errors(candidate, plan) or _slow(candidate, stable, plan) or _refusals(candidate, stable)
    if wrong:
        return Verdict.BACK, wrong
    if candidate.requests < plan.min_requests:
        return Verdict.WAIT, f"{candidate.requests} of at least {plan.min_requests} requests answered"
    if seconds < plan.step_seconds:
        return Verdict.WAIT, f"{seconds:.0f} of {plan.step_seconds:g} s, {candidate.requests} requests"
    return Verdict.GO, f"{candidate.requests} requests, {candidate.errors} errors"


def _errors(candidate: Observed, plan: RolloutSpec) -> str | None:
    """Say that there are too many errors, as soon as the step can no longer have few enough.

    Few requests count as the least that a step must have: one error in two requests is one in `min_requests`.
    """
    among = max(candidate.requests, plan.min_requests, 1)
    if candidate.errors / among <= plan.max_error:
        return None
    return f"{candidate.errors} of {candidate.requests} requests were answered with 5xx, more than {plan.max_error:.2%}"


def _slow(candidate: Observed, stable: Observed, plan: RolloutSpec) -> str | None:
    if candidate.p95 is None or candidate.requests < max(_LEAST_TIMED, plan.min_requests):
        return None
    if plan.max_p95 is not None and candidate.p95 > plan.max_p95:
        return f"its 95th percentile is {_ms(candidate.p95)}, more than {_ms(plan.max_p95)}"
    if plan.max_slowdown is None or stable.p95 is None or stable.requests < _LEAST_TIMED:
        return None
    longest = max(plan.max_slowdown * stable.p95, stable.p95 + _LEAST_DIFFERENCE)
    if candidate.p95 <= longest:
        return None
    return (
        f"its 95th percentile is {_ms(candidate.p95)}, more than {plan.max_slowdown:g} times the "
        f"{_ms(stable.p95)} of the version before"
    )


def _refusals(candidate: Observed, stable: Observed) -> str | None:
    if min(candidate.requests, stable.requests) < _LEAST_TIMED:
        return None
    found, usual = candidate.refusals / candidate.requests, stable.refusals / stable.requests
    if found <= usual + _MORE_REFUSED:
        return None
    return f"it refuses {found:.0%} of its requests with 4xx, and the version before {usual:.0%}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
