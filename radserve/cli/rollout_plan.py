"""How a rollout shall go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RolloutPlan:
    """What a rollout is told.

    Attributes
    ----------
    steps
        Shares of the requests in percent; they grow and end with 100.
    step_seconds
        How long each is watched before the next.
    max_error
        Fraction of a step's requests that may fail.
    max_p95
        Seconds; None for no limit.
    max_slowdown
        By which factor the p95 may be above that of the version before; None for no limit.
    min_requests
        How many a step must have seen before it is judged.
    workers
        Of the version; None where the server may choose.
    shadow
        Percent of the requests that are copied, in place of a canary; None for a canary.
    """

    name: str
    version: str
    steps: tuple[float, ...] = (5, 25, 100)
    step_seconds: float = 300
    max_error: float = 0.01
    max_p95: float | None = None
    max_slowdown: float | None = 2
    min_requests: int = 20
    workers: int | None = None
    shadow: float | None = None
    reason: str | None = None

    def body(self) -> dict[str, Any]:
        """Return it as the control API takes it."""
        return {key: value for key, value in vars(self).items() if key != "name"}
