"""Rollout documents: the settings of a rollout, and its progress."""

from datetime import datetime
from itertools import pairwise
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from radserve.schema.types import Document, Version

Percent = Annotated[float, Field(gt=0, le=100)]  # percent of a model's requests


class RolloutSpec(BaseModel, extra="forbid", frozen=True):
    """Settings of a rollout.

    The new version gets each share (percent) of `steps` for at least `step_seconds` and `min_requests`. A step fails
    above the fraction `max_error` of 5xx responses, the 95th percentile `max_p95` of the response time in seconds, its
    ratio `max_slowdown` to that of the previous version, or, below a share of 100, `max_shift`: the population
    stability index of its labels or domain statuses against those of the previous version. None means no limit.
    `workers` is None for as many as the previous version has. `shadow` is the percentage of requests that are copied to
    the new version instead of a canary; clients never get its responses.
    """

    version: Version
    steps: Annotated[tuple[Percent, ...], Field(min_length=1)] = (5.0, 25.0, 100.0)
    step_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 300.0
    max_error: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_p95: Annotated[float, Field(gt=0)] | None = None
    max_slowdown: Annotated[float, Field(ge=1)] | None = 2.0
    max_shift: Annotated[float, Field(gt=0)] | None = None
    min_requests: Annotated[int, Field(ge=0)] = 20
    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    shadow: Percent | None = None
    reason: Annotated[str, Field(max_length=1000), BeforeValidator(lambda value: value or "")] = ""

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.steps[-1] != 100:
            raise ValueError(f"steps end with {self.steps[-1]:g}; the last share must be 100")
        if any(after <= before for before, after in pairwise(self.steps)):
            raise ValueError("steps must grow")
        if self.max_shift is not None and self.shadow is not None:
            raise ValueError(f"max_shift is {self.max_shift:g}, but a shadow has no limits; omit one of them")
        if self.max_shift is not None and len(self.steps) == 1:
            raise ValueError(
                f"max_shift is {self.max_shift:g}, but a step of 100 leaves no requests to compare with; "
                "add a smaller step or omit max_shift"
            )
        return self


class Latency(Document):
    """Median and 95th percentile of the response time in seconds; None without requests."""

    p50: float | None = None
    p95: float | None = None


class TrafficSample(Document):
    """Requests to one version during a step, as its clients experienced it.

    Attributes
    ----------
    errors, rejections
        Number of 5xx and of 4xx responses.
    p95
        95th percentile of the response time in seconds; None before the first response.
    outcomes
        Requests by `label` and by status of `domain`; one with several images counts with the share of each value.
    """

    requests: int
    errors: int
    rejections: int = 0
    p95: float | None = None
    outcomes: dict[str, dict[str, float]] = Field(default_factory=dict)


class ShadowExample(Document):
    """Request that the two versions answered differently."""

    request_id: str
    stable: str
    candidate: str


class ShadowReport(Document):
    """Comparison of the responses to copied requests.

    Both versions answered `compared` copies, `agreeing` of them with the same label; `largest_difference` is that of
    their probabilities. `dropped` copies were not sent because the candidate was too slow, `failed` ones got no
    response. `images` counts the images by kind of value: `label`, the status `domain`, and `probability` and detector
    `percentile` in tenths. `shifts` are the population stability indices of the candidate against the previous version,
    for the kinds with at least 200 images or a significant difference.
    """

    copies: int
    compared: int
    agreeing: int
    dropped: int
    failed: int
    largest_difference: float | None = None
    images: dict[str, int] = Field(default_factory=dict)
    shifts: dict[str, float] = Field(default_factory=dict)
    candidate: Latency | None = None
    stable: Latency | None = None
    examples: tuple[ShadowExample, ...] = ()


class RolloutStatus(Document):
    """Progress of a rollout, or its outcome; `share` is the percentage that the new version gets now.

    `phase` is `pulling`, `verifying`, `starting`, `shadow` or `canary`; at the end `promoted`, `shadowed` or
    `rolled_back`. `succeeded` is None while it is running. `before` had the traffic when the rollout began. `step` is
    an index of `steps`. `detail` describes the progress, or why it ended.
    """

    name: str
    version: str
    before: str | None = None
    phase: str
    done: bool
    succeeded: bool | None = None
    share: float
    steps: tuple[float, ...] = ()
    step: int | None = None
    started: datetime
    step_started: datetime | None = None
    detail: str
    candidate: TrafficSample | None = None
    stable: TrafficSample | None = None
    shadow: ShadowReport | None = None
