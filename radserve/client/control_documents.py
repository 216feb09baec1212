"""What a server's control API answers, as values; what a newer server says beyond it is passed over."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, JsonValue

from radserve.versions.deployment_spec import Change


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Workers(_Answer):
    """How many a version should have, and how many of them are ready."""

    wanted: int
    ready: int


class Latency(_Answer):
    """Seconds within which half and 95 % of the requests were answered; None where there were none."""

    p50: float | None = None
    p95: float | None = None


class Version(_Answer):
    """One version of a model.

    Attributes
    ----------
    state
        `ready`, `degraded` (not all workers), `starting`, or `candidate` (registered, not verified yet).
    default
        Whether it answers requests that name no version, where their traffic is not split.
    share
        Of the requests that name no version, in percent.
    refusals
        Answers of 4xx; `errors` are those of 5xx.
    """

    version: str
    sha256: str
    size: int
    state: str
    default: bool
    share: float
    workers: Workers
    registered: datetime
    age_seconds: float
    requests: int
    errors: int
    refusals: int
    latency: Latency | None = None


class Observed(_Answer):
    """What was seen of one side during a step; `p95` in seconds."""

    requests: int
    errors: int
    p95: float | None = None


class Example(_Answer):
    """A request that the two versions answered differently."""

    request_id: str
    stable: str
    candidate: str


class Report(_Answer):
    """What came of the copies that a candidate was sent.

    Attributes
    ----------
    compared, agreeing
        Copies that both answered, and those of them that got the same label.
    dropped
        Copies that were not sent on, since the candidate was too slow for them.
    failed
        Copies to which the candidate gave no answer.
    largest_difference
        Between the probabilities of two answers.
    """

    copies: int
    compared: int
    agreeing: int
    dropped: int
    failed: int
    largest_difference: float | None = None
    candidate: Latency | None = None
    stable: Latency | None = None
    examples: tuple[Example, ...] = ()


class Rollout(_Answer):
    """A rollout that runs, or the last one.

    Attributes
    ----------
    before
        The version that had the traffic when it began.
    phase
        `pulling`, `verifying`, `starting`, `shadow`, `canary`; at its end `promoted`, `shadowed` or `rolled_back`.
    succeeded
        None while it runs.
    share
        What the version gets now, in percent.
    steps, step
        Its shares, and the index of the one it is at.
    detail
        Where it stands, or why it ended.
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
    candidate: Observed | None = None
    stable: Observed | None = None
    shadow: Report | None = None


class Model(_Answer):
    """The versions of one model.

    Attributes
    ----------
    previous
        The version that a rollback would lead to.
    rollout
        The one that runs, or the last one.
    """

    name: str
    versions: tuple[Version, ...]
    previous: str | None = None
    rollout: Rollout | None = None


class Overview(_Answer):
    """All models of a server; `front` tells whether nginx is before it, which can split the traffic."""

    front: bool
    models: tuple[Model, ...]


class Changes(_Answer):
    """What would be done, or was."""

    changes: tuple[Change, ...]


class AuditEntry(_Answer):
    """One line of the audit log: who did what when, and why."""

    time: datetime
    actor: str
    action: str
    model: str | None = None
    version: str | None = None
    sha256: str | None = None
    reason: str | None = None
    detail: str | None = None
    previous: JsonValue = None


class Audit(_Answer):
    """The end of the audit log, the newest entry last."""

    entries: tuple[AuditEntry, ...]
