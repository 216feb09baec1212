"""What a rollout may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from radserve.errors import InvalidChangeError
from radserve.versions.request_parsing import read_rollout_spec
from radserve.versions.rollout_spec import RolloutSpec


def test_a_version_is_enough() -> None:
    plan = read_rollout_spec({"version": "2.0.0"})
    assert plan == RolloutSpec(version="2.0.0", steps=(5, 25, 100), step_seconds=300, max_error=0.01, max_slowdown=2)


def test_what_the_command_line_leaves_open_is_null() -> None:
    nothing = dict.fromkeys(("max_p95", "max_slowdown", "workers", "shadow", "reason"))
    assert read_rollout_spec({"version": "2.0.0"} | nothing) == RolloutSpec(version="2.0.0", max_slowdown=None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "two"}, "key 'version'"),
        ({"steps": []}, "key 'steps'"),
        ({"steps": [5, 25]}, "steps end with 25; the last share must be 100"),
        ({"steps": [25, 5, 100]}, "steps must grow"),
        ({"steps": [0, 100]}, "key 'steps.0'"),
        ({"steps": [101]}, "key 'steps.0'"),
        ({"step_seconds": -1}, "key 'step_seconds'"),
        ({"max_error": 5}, "key 'max_error'"),
        ({"max_p95": 0}, "key 'max_p95'"),
        ({"max_slowdown": 0.5}, "key 'max_slowdown'"),
        ({"workers": 0}, "key 'workers'"),
        ({"shadow": 0}, "key 'shadow'"),
        ({"canary": 5}, "key 'canary'"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidChangeError, match=said):
        read_rollout_spec({"version": "2.0.0"} | changed)
