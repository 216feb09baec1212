"""When a rollout goes on, waits, or goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radserve.schema.rollout import RolloutSpec
from radserve.versions.rollout_analysis import Observed, Verdict, judge

PLAN = RolloutSpec(version="2.0.0", step_seconds=10, min_requests=20)
STABLE = Observed(1000, 0, 0, 0.1)


@pytest.mark.parametrize(
    ("candidate", "seconds", "verdict", "said"),
    [
        (Observed(), 0, Verdict.WAIT, "0 of at least 20 requests"),
        (Observed(), 1e6, Verdict.WAIT, "0 of at least 20 requests"),
        (Observed(100, 0, 0, 0.1), 9, Verdict.WAIT, "9 of 10 s, 100 requests"),
        (Observed(100, 0, 0, 0.1), 10, Verdict.GO, "100 requests, 0 errors"),
        (Observed(100, 1, 0, 0.1), 10, Verdict.GO, "100 requests, 1 errors"),
        (Observed(100, 2, 0, 0.1), 1, Verdict.BACK, "2 of 100 requests were answered with 5xx, more than 1.00%"),
        (Observed(1, 1, 0, None), 0, Verdict.BACK, "1 of 1 requests"),
        (Observed(100, 0, 0, 0.21), 10, Verdict.BACK, "210 ms, more than 2 times the 100 ms"),
        (Observed(100, 0, 0, 0.19), 10, Verdict.GO, ""),
        (Observed(19, 0, 0, 9.0), 1, Verdict.WAIT, "19 of at least 20"),
        (
            Observed(100, 0, 50, 0.1),
            10,
            Verdict.BACK,
            "refuses 50% of its requests with 4xx, and the version before 0%",
        ),
        (Observed(100, 0, 15, 0.1), 10, Verdict.GO, ""),
    ],
)
def test_a_step_is_judged_by_errors_latency_refusals_number_and_time(
    candidate: Observed, seconds: float, verdict: Verdict, said: str
) -> None:
    found, why = judge(candidate, STABLE, PLAN, seconds)
    assert found is verdict
    assert said in why


def test_a_bound_of_its_own_needs_no_version_to_compare_with() -> None:
    plan = PLAN.model_copy(update={"max_p95": 0.2, "max_slowdown": None})
    assert judge(Observed(100, 0, 0, 0.3), Observed(), plan, 10)[1] == "its 95th percentile is 300 ms, more than 200 ms"
    assert judge(Observed(100, 0, 0, 0.1), Observed(), plan, 10)[0] is Verdict.GO


def test_noise_of_milliseconds_is_no_slowness() -> None:
    assert judge(Observed(100, 0, 0, 0.009), Observed(1000, 0, 0, 0.003), PLAN, 10)[0] is Verdict.GO
    assert judge(Observed(100, 0, 0, 0.029), Observed(1000, 0, 0, 0.003), PLAN, 10)[0] is Verdict.BACK


def test_what_came_with_few_requests_of_the_version_before_is_not_compared() -> None:
    assert judge(Observed(100, 0, 90, 9.0), Observed(19, 0, 0, 0.1), PLAN, 10)[0] is Verdict.GO


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 100))
def test_more_errors_than_allowed_never_go_on(requests: int, errors: int, seconds: float) -> None:
    errors = min(errors, requests)
    verdict, _ = judge(Observed(requests, errors, 0, 0.1), STABLE, PLAN, seconds)
    if requests >= PLAN.min_requests and errors > PLAN.max_error * requests:
        assert verdict is Verdict.BACK
    if verdict is Verdict.GO:
        assert requests >= PLAN.min_requests
        assert seconds >= PLAN.step_seconds
