"""How a rollout is to go: what a client asks for, checked."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handlers.recipe import Version

Share = Annotated[float, Field(gt=0, le=100)]
"""Percent of a model's requests."""


class RolloutSpec(BaseModel):
    """A rollout, as it was asked for.

    Attributes
    ----------
    steps
        Shares that the new version gets, one after the other; the last is 100.
    step_seconds
        How long each is watched, at least.
    max_error
        Largest part of a step's requests that may be answered with 5xx.
    max_p95
        Longest 95th percentile of the time to an answer, in seconds; None for no bound.
    max_slowdown
        How many times that of the version before it may be; None for no bound.
    min_requests
        Requests that a step must have seen before it counts, however long that takes.
    workers
        Of the new version; as many as the one before if None.
    shadow
        Percent of the requests that are copied to the new version, whose answers nobody gets; then there are no steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version
    steps: Annotated[tuple[Share, ...], Field(min_length=1)] = (5.0, 25.0, 100.0)
    step_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 300.0
    max_error: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_p95: Annotated[float, Field(gt=0)] | None = None
    max_slowdown: Annotated[float, Field(ge=1)] | None = 2.0
    min_requests: Annotated[int, Field(ge=0)] = 20
    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    shadow: Share | None = None
    reason: Annotated[str, Field(max_length=1000)] = ""

    @model_validator(mode="after")
    def _growing(self) -> Self:
        if self.steps[-1] != 100:
            raise ValueError(f"steps end with {self.steps[-1]:g}; the last share must be 100")
        if any(after <= before for before, after in pairwise(self.steps)):
            raise ValueError("steps must grow")
        return self
