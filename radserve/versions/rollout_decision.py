"""Decides whether a rollout advances, waits or is rolled back: pure functions of the observed traffic."""

from enum import Enum
from math import sqrt
from typing import Final

from radserve.schema.rollout import RolloutSpec, TrafficSample
from radserve.versions.distribution_shift import is_significant, largest_increase, population_stability_index

_MIN_SLOWDOWN_SECONDS: Final = 0.025
"""Seconds by which a version must be slower before the ratio counts: noise alone can double a response of 3 ms."""
_MIN_SAMPLES: Final = 20  # responses that a 95th percentile, a rejection rate or a shift needs to be meaningful
_MAX_EXTRA_REJECTIONS: Final = 0.2
"""Fraction of requests that a version may reject in addition: a few more than the stable one, not most."""

_DEVIATIONS: Final = 3.0  # standard deviations: chance exceeds them once in 740 samples

_ALL: Final = 100.0  # percent; the stable version receives no requests to compare with
_OUTCOMES: Final = {"label": "labels", "domain": "domain statuses"}

_MAX_ERROR_RATIO: Final = 2.0  # of error rates, for which both versions may have the same cause


class Decision(Enum):
    """The next action of a rollout."""

    ADVANCE = "advance"
    WAIT = "wait"
    ROLL_BACK = "roll back"
    GIVE_UP = "give up"  # roll back, although the version is not the cause


def decide(
    candidate: TrafficSample, stable: TrafficSample, spec: RolloutSpec, share: float, elapsed_seconds: float
) -> tuple[Decision, str]:
    """Decide how a step of a rollout continues, by the traffic of both versions in it; return the reason as well.

    `share` is the percentage of the requests that the candidate receives.
    """
    problem = _error_problem(candidate, spec) or _p95_problem(candidate, spec)
    common = _error_problem(stable, spec) or _p95_problem(stable, spec)
    if problem and common and not _is_much_worse(candidate, stable, spec):
        return Decision.GIVE_UP, f"{problem}; the stable version as well: {common}"
    problem = (
        problem
        or _slowdown_problem(candidate, stable, spec)
        or _rejection_problem(candidate, stable)
        or _shift_problem(candidate, stable, spec)
    )
    if problem:
        return Decision.ROLL_BACK, problem
    if candidate.requests < spec.min_requests:
        return Decision.WAIT, f"{candidate.requests} of at least {spec.min_requests} requests answered"
    if elapsed_seconds < spec.step_seconds:
        return Decision.WAIT, f"{elapsed_seconds:.0f} of {spec.step_seconds:g} s, {candidate.requests} requests"
    if spec.max_shift is not None and share < _ALL:
        for name, sample in (("new", candidate), ("stable", stable)):
            if blocked := _missing_labels(name, sample):
                return blocked
    return Decision.ADVANCE, f"{candidate.requests} requests, {candidate.errors} errors"


def _error_problem(candidate: TrafficSample, spec: RolloutSpec) -> str | None:
    """Report too many errors as soon as the step, with at least `min_requests` requests, can no longer succeed."""
    if candidate.errors / max(candidate.requests, spec.min_requests, 1) <= spec.max_error:
        return None
    return f"{candidate.errors} of {candidate.requests} requests failed with 5xx, more than {spec.max_error:.2%}"


def _is_much_worse(candidate: TrafficSample, stable: TrafficSample, spec: RolloutSpec) -> bool:
    """Return whether a cause common to both versions does not explain a problem of the candidate."""
    rate, stable_rate = (sample.errors / max(sample.requests, 1) for sample in (candidate, stable))
    excess = rate > _MAX_ERROR_RATIO * stable_rate and _error_problem(candidate, spec)
    return bool(excess or _slowdown_problem(candidate, stable, spec))


def _p95(sample: TrafficSample, spec: RolloutSpec) -> float | None:
    """Return the 95th percentile of the latency, or None if there are too few requests."""
    return sample.p95 if sample.requests >= max(_MIN_SAMPLES, spec.min_requests) else None


def _p95_problem(sample: TrafficSample, spec: RolloutSpec) -> str | None:
    p95 = _p95(sample, spec)
    if p95 is None or spec.max_p95 is None or p95 <= spec.max_p95:
        return None
    return f"its 95th percentile is {_milliseconds(p95)}, more than {_milliseconds(spec.max_p95)}"


def _slowdown_problem(candidate: TrafficSample, stable: TrafficSample, spec: RolloutSpec) -> str | None:
    if spec.max_slowdown is None or stable.p95 is None or stable.requests < _MIN_SAMPLES:
        return None
    p95 = _p95(candidate, spec)
    if p95 is None or p95 <= max(spec.max_slowdown * stable.p95, stable.p95 + _MIN_SLOWDOWN_SECONDS):
        return None
    return (
        f"its 95th percentile is {_milliseconds(p95)}, more than {spec.max_slowdown:g} times the "
        f"{_milliseconds(stable.p95)} of the stable version"
    )


def _rejection_problem(candidate: TrafficSample, stable: TrafficSample) -> str | None:
    if min(candidate.requests, stable.requests) < _MIN_SAMPLES:
        return None
    rate, stable_rate = candidate.rejections / candidate.requests, stable.rejections / stable.requests
    if _lower_bound(candidate.rejections, candidate.requests) <= stable_rate + _MAX_EXTRA_REJECTIONS:
        return None
    return f"it rejects {rate:.0%} of its requests with 4xx, and the stable version {stable_rate:.0%}"


def _shift_problem(candidate: TrafficSample, stable: TrafficSample, spec: RolloutSpec) -> str | None:
    """Report labels or domain statuses that differ from those of the stable version, in randomly assigned requests."""
    for kind, name in _OUTCOMES.items():
        counts, reference = candidate.outcomes.get(kind, {}), stable.outcomes.get(kind, {})
        if spec.max_shift is None or min(sum(counts.values()), sum(reference.values())) < _MIN_SAMPLES:
            continue
        shift = population_stability_index(counts, reference)
        if shift > spec.max_shift and is_significant(counts, reference):
            return (
                f"its {name} have a population stability index of {shift:.2f} against the stable version, more than "
                f"{spec.max_shift:g}: {largest_increase(counts, reference)}"
            )
    return None


def _missing_labels(name: str, sample: TrafficSample) -> tuple[Decision, str] | None:
    """Return the decision about a step whose shift cannot be compared, because a version reported too few labels."""
    labels = sum(sample.outcomes.get("label", {}).values())
    answered = sample.requests - sample.errors - sample.rejections
    if labels >= _MIN_SAMPLES:
        return None
    if labels or answered < _MIN_SAMPLES:
        return Decision.WAIT, f"{labels:.0f} of at least {_MIN_SAMPLES} labels of the {name} version to compare"
    return Decision.GIVE_UP, (
        f"the shift was not compared: none of the {answered} responses of the {name} version reported a label, because "
        "all requests have an X-Client-Id or the archive is of an earlier release; omit max_shift (--max-shift)"
    )


def _lower_bound(count: int, total: int) -> float:
    """Return the lower bound of a rate that was observed in `total` requests.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    rate, squared = count / total, _DEVIATIONS**2
    spread = _DEVIATIONS * sqrt(rate * (1 - rate) / total + squared / (4 * total**2))
    return (rate + squared / (2 * total) - spread) / (1 + squared / total)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
