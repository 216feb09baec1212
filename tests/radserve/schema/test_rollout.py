"""Tests of radserve.schema.rollout."""

from typing import Any

import pytest
from pydantic import ValidationError

from radserve.schema.rollout import RolloutSpec


def test_only_the_version_is_required() -> None:
    spec = RolloutSpec.model_validate({"version": "2.0.0"})
    assert (spec.steps, spec.step_seconds, spec.max_error, spec.max_slowdown) == ((5, 25, 100), 300, 0.01, 2)


def test_optional_settings_may_be_null() -> None:
    nulls = dict.fromkeys(("max_p95", "max_slowdown", "max_shift", "workers", "shadow", "reason"))
    assert RolloutSpec.model_validate({"version": "2.0.0"} | nulls) == RolloutSpec(version="2.0.0", max_slowdown=None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": "two"}, "version"),
        ({"steps": []}, "steps"),
        ({"steps": [5, 25]}, "steps end with 25; the last share must be 100"),
        ({"steps": [25, 5, 100]}, "steps must grow"),
        ({"steps": [0, 100]}, r"steps\.0"),
        ({"steps": [101]}, r"steps\.0"),
        ({"step_seconds": -1}, "step_seconds"),
        ({"max_error": 5}, "max_error"),
        ({"max_p95": 0}, "max_p95"),
        ({"max_slowdown": 0.5}, "max_slowdown"),
        ({"max_shift": 0}, "max_shift"),
        (
            {"max_shift": 0.25, "steps": [100]},
            "max_shift is 0.25, but a step of 100 leaves no requests",
        ),
        ({"max_shift": 0.25, "shadow": 50}, "max_shift is 0.25, but a shadow has no limits"),
        ({"workers": 0}, "workers"),
        ({"shadow": 0}, "shadow"),
        ({"canary": 5}, "canary"),
    ],
)
def test_an_invalid_setting_is_rejected(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutSpec.model_validate({"version": "2.0.0"} | changed)
