"""What a rollout may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from radserve.errors import InvalidChangeError
from radserve.schema.rollout import RolloutSpec
from radserve.versions import request


def test_a_version_is_enough() -> None:
    plan = request.plan({"version": "2.0.0"})
    assert plan == RolloutSpec(version="2.0.0", steps=(5, 25, 100), step_seconds=300, max_error=0.01, max_slowdown=2)


def test_what_the_command_line_leaves_open_is_null() -> None:
    nothing = dict.fromkeys(("max_p95", "max_slowdown", "workers", "shadow", "reason"))
    assert request.plan({"version": "2.0.0"} | nothing) == RolloutSpec(version="2.0.0", max_slowdown=None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "two"}, "version: "),
        ({"steps": []}, "steps: "),
        ({"steps": [5, 25]}, "steps end with 25; the last share must be 100"),
        ({"steps": [25, 5, 100]}, "steps must grow"),
        ({"steps": [0, 100]}, "steps.0: "),
        ({"steps": [101]}, "steps.0: "),
        ({"step_seconds": -1}, "step_seconds: "),
        ({"max_error": 5}, "max_error: "),
        ({"max_p95": 0}, "max_p95: "),
        ({"max_slowdown": 0.5}, "max_slowdown: "),
        ({"workers": 0}, "workers: "),
        ({"shadow": 0}, "shadow: "),
        ({"canary": 5}, "canary: "),
    ],
)
def test_what_is_wrong_is_named_with_its_value(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidChangeError, match=said):
        request.plan({"version": "2.0.0"} | changed)
