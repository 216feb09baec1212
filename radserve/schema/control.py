"""Control API documents: versions, models, registration, audit log."""

from datetime import datetime

from pydantic import JsonValue

from radserve.schema.rollout import Latency, RolloutStatus
from radserve.schema.types import Document


class Registration(Document):
    """Request body that registers or scales a version; the server chooses `workers` if it is None."""

    workers: int | None = None
    reason: str | None = None


class WorkerCount(Document):
    """Number of workers that a version should have, and of those that are ready."""

    wanted: int
    ready: int


class VersionStatus(Document):
    """One version of a model on a server.

    `state` is `ready`, `degraded` (some workers missing), `starting`, `candidate` (registered, not yet verified) or
    `leaving`. `default` versions get the requests that name no version while the traffic is not split; `share` is the
    percentage of these requests. `errors` and `rejections` count 5xx and 4xx responses, at the
    proxy and in the workers; the larger number is shown.
    """

    version: str
    sha256: str
    size: int
    state: str
    default: bool
    share: float
    workers: WorkerCount
    registered: datetime
    age_seconds: float
    requests: int
    errors: int
    rejections: int
    latency: Latency | None = None


class QuarantinedVersion(Document):
    """Archive of the model store that was rolled back; it is served only where its version is named."""

    version: str
    sha256: str
    reason: str


class ModelStatus(Document):
    """Versions of one model; `previous` is what a rollback restores, `rollout` the running or last one."""

    name: str
    versions: tuple[VersionStatus, ...]
    previous: str | None = None
    rollout: RolloutStatus | None = None
    quarantined: tuple[QuarantinedVersion, ...] = ()


class ServerStatus(Document):
    """Models of a server; `front` is true if an nginx proxy runs before it, which can split the traffic."""

    front: bool
    models: tuple[ModelStatus, ...]


class AuditEntry(Document):
    """One entry of the audit log; `previous` is the SHA-256 of the entry before."""

    time: datetime
    actor: str
    action: str
    model: str | None = None
    version: str | None = None
    sha256: str | None = None
    reason: str | None = None
    detail: str | None = None
    previous: JsonValue = None


class AuditVerification(Document):
    """Result of a verification of the audit log.

    `head` is the SHA-256 of the last entry. `problem` says which entries are damaged or missing; None if none are.
    """

    entries: int
    head: str
    problem: str | None = None


class AuditLog(Document):
    """Last entries of the audit log, the newest at the end."""

    entries: tuple[AuditEntry, ...]
