"""Tests of radserve.versions.rollout_decision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.schema.rollout import RolloutSpec, TrafficSample
from radserve.versions.rollout_decision import Decision, decide

SPEC = RolloutSpec(version="2.0.0", step_seconds=10, min_requests=20)


def sample(requests: int = 0, errors: int = 0, rejections: int = 0, p95: float | None = None) -> TrafficSample:
    return TrafficSample(requests=requests, errors=errors, rejections=rejections, p95=p95)


STABLE = sample(1000, 0, 0, 0.1)


@pytest.mark.parametrize(
    ("candidate", "seconds", "decision", "reason"),
    [
        (sample(), 0, Decision.WAIT, "0 of at least 20 requests"),
        (sample(), 1e6, Decision.WAIT, "0 of at least 20 requests"),
        (sample(100, 0, 0, 0.1), 9, Decision.WAIT, "9 of 10 s, 100 requests"),
        (sample(100, 0, 0, 0.1), 10, Decision.ADVANCE, "100 requests, 0 errors"),
        (sample(100, 1, 0, 0.1), 10, Decision.ADVANCE, "100 requests, 1 errors"),
        (sample(100, 2, 0, 0.1), 1, Decision.ROLL_BACK, "2 of 100 requests failed with 5xx, more than 1.00%"),
        (sample(1, 1, 0, None), 0, Decision.ROLL_BACK, "1 of 1 requests"),
        (sample(100, 0, 0, 0.21), 10, Decision.ROLL_BACK, "210 ms, more than 2 times the 100 ms"),
        (sample(100, 0, 0, 0.19), 10, Decision.ADVANCE, ""),
        (sample(100, 0, 0, None), 10, Decision.ADVANCE, ""),
        (sample(19, 0, 0, 9.0), 1, Decision.WAIT, "19 of at least 20"),
        (
            sample(100, 0, 50, 0.1),
            10,
            Decision.ROLL_BACK,
            "rejects 50% of its requests with 4xx, and the stable version 0%",
        ),
        (sample(100, 0, 15, 0.1), 10, Decision.ADVANCE, ""),
        (sample(20, 0, 20, 0.1), 1, Decision.ROLL_BACK, "rejects 100% of its requests"),
        (sample(20, 0, 6, 0.1), 10, Decision.ADVANCE, ""),  # by chance, once in 90 if 10% of the images are bad
    ],
)
def test_errors_latency_rejections_requests_and_time_decide_a_step(
    candidate: TrafficSample, seconds: float, decision: Decision, reason: str
) -> None:
    actual, why = decide(candidate, STABLE, SPEC, 25, seconds)
    assert actual is decision
    assert reason in why


def test_an_absolute_latency_limit_needs_no_stable_version_to_compare_with() -> None:
    spec = SPEC.model_copy(update={"max_p95": 0.2, "max_slowdown": None})
    slow, fast = sample(100, 0, 0, 0.3), sample(100, 0, 0, 0.1)
    assert decide(slow, sample(), spec, 25, 10)[1] == "its 95th percentile is 300 ms, more than 200 ms"
    assert decide(fast, sample(), spec, 25, 10)[0] is Decision.ADVANCE


def test_noise_of_a_few_milliseconds_is_not_a_slowdown() -> None:
    stable = sample(1000, 0, 0, 0.003)
    assert decide(sample(100, 0, 0, 0.009), stable, SPEC, 25, 10)[0] is Decision.ADVANCE
    assert decide(sample(100, 0, 0, 0.029), stable, SPEC, 25, 10)[0] is Decision.ROLL_BACK


def test_a_stable_version_with_few_requests_is_not_compared() -> None:
    assert decide(sample(100, 0, 90, 9.0), sample(19, 0, 0, 0.1), SPEC, 25, 10)[0] is Decision.ADVANCE


@pytest.mark.parametrize(
    ("candidate", "stable", "decision"),
    [
        (sample(50, 50), sample(1000, 20), Decision.ROLL_BACK),
        (sample(50, 50), sample(1000, 900), Decision.GIVE_UP),
        (sample(100, 4), sample(1000, 20), Decision.GIVE_UP),
        (sample(100, 5), sample(1000, 20), Decision.ROLL_BACK),
        (sample(100, 0, 0, 0.9), sample(1000, 20, 0, 0.1), Decision.ROLL_BACK),
        (sample(100, 0, 0, 0.9), sample(1000, 0, 0, 0.8), Decision.GIVE_UP),
    ],
)
def test_a_problem_of_both_versions_is_no_verdict_unless_the_new_one_is_much_worse(
    candidate: TrafficSample, stable: TrafficSample, decision: Decision
) -> None:
    spec = SPEC.model_copy(update={"max_p95": 0.5})
    assert decide(candidate, stable, spec, 25, 10)[0] is decision


def outcomes(kind: str = "label", **counts: float) -> TrafficSample:
    return TrafficSample(requests=round(sum(counts.values())), errors=0, outcomes={kind: counts})


LIMITED = SPEC.model_copy(update={"max_shift": 0.25})


@pytest.mark.parametrize(
    ("candidate", "stable", "decision"),
    [
        (outcomes(normal=20, pneumonia=80), outcomes(normal=600, pneumonia=400), Decision.ROLL_BACK),
        (outcomes(normal=50, pneumonia=50), outcomes(normal=600, pneumonia=400), Decision.ADVANCE),
        (outcomes(normal=6, pneumonia=14), outcomes(normal=600, pneumonia=400), Decision.ADVANCE),  # chance
        (outcomes(normal=0, pneumonia=19), outcomes(normal=600, pneumonia=400), Decision.WAIT),  # too few
        (outcomes(normal=0, pneumonia=100), outcomes(normal=19, pneumonia=0), Decision.WAIT),
        (outcomes("domain", normal=80, unlike=20), outcomes("domain", normal=980, unlike=20), Decision.ROLL_BACK),
        (outcomes("domain", normal=80, unlike=20), outcomes(normal=600, pneumonia=400), Decision.GIVE_UP),
    ],
)
def test_a_shift_that_chance_does_not_explain_is_rolled_back(
    candidate: TrafficSample, stable: TrafficSample, decision: Decision
) -> None:
    assert decide(candidate, stable, LIMITED, 25, 10)[0] is decision
    assert decide(candidate, stable, SPEC, 25, 10)[0] is not Decision.ROLL_BACK, "the limit is off by default"


@pytest.mark.parametrize(
    ("candidate", "stable", "decision", "reason"),
    [
        (outcomes(normal=40), sample(1000), Decision.GIVE_UP, "none of the 1000 responses of the stable version"),
        (sample(40), outcomes(normal=40), Decision.GIVE_UP, "none of the 40 responses of the new version"),
        (outcomes(normal=40), sample(19), Decision.WAIT, "0 of at least 20 labels of the stable version"),
        (outcomes(normal=40), sample(40, 10, 11), Decision.WAIT, "0 of at least 20 labels of the stable version"),
        (outcomes(normal=7).model_copy(update={"requests": 90}), outcomes(normal=40), Decision.WAIT, "7 of at least"),
        (outcomes(normal=20), outcomes(normal=20), Decision.ADVANCE, "20 requests"),
    ],
)
def test_a_step_with_a_limit_of_shift_never_advances_without_a_comparison(
    candidate: TrafficSample, stable: TrafficSample, decision: Decision, reason: str
) -> None:
    actual, why = decide(candidate, stable, LIMITED, 25, 10)
    assert actual is decision
    assert reason in why
    assert ("the shift was not compared" in why) is (decision is Decision.GIVE_UP)
    assert decide(candidate, stable, SPEC, 25, 10)[0] is Decision.ADVANCE, "without the limit"
    assert decide(candidate, stable, LIMITED, 100, 10)[0] is Decision.ADVANCE, "the stable version has no requests"
    assert decide(candidate, stable, LIMITED, 25, 9)[0] is Decision.WAIT, "the step is not over"


def test_a_shift_names_the_values_that_moved() -> None:
    _, reason = decide(outcomes(normal=20, pneumonia=80), outcomes(normal=600, pneumonia=400), LIMITED, 25, 10)
    assert reason == (
        "its labels have a population stability index of 0.72 against the stable version, more than 0.25: "
        "pneumonia 80% instead of 40%"
    )


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 100))
def test_a_step_with_too_many_errors_never_advances(requests: int, errors: int, seconds: float) -> None:
    errors = min(errors, requests)
    decision, _ = decide(sample(requests, errors, 0, 0.1), STABLE, SPEC, 25, seconds)
    if requests >= SPEC.min_requests and errors > SPEC.max_error * requests:
        assert decision is Decision.ROLL_BACK
    if decision is Decision.ADVANCE:
        assert requests >= SPEC.min_requests
        assert seconds >= SPEC.step_seconds
