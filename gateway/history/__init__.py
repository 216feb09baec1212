"""Results that were given: what is kept of them, and what every place that keeps them can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_serializer, field_validator

DEFAULT_LIMIT = 25
MAX_LIMIT = 200


class Result(BaseModel):
    """What is kept of one answer. Never the image, and never a refusal: a refusal is no result.

    Attributes
    ----------
    id
        Unique; sorts by time (UUID version 7, RFC 9562).
    time
        When it was given (UTC), to the millisecond, as the answer says it.
    sha256
        Of the archive that gave it.
    image_sha256
        Of the image as sent.
    probability
        Of `label`; None where the answer has none (segmentation).
    client
        Name of the key, or of the token's subject.
    filename
        As the client named it, where names are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    time: Annotated[AwareDatetime, Field(json_schema_extra={"format": "date-time"})]
    verb: Literal["predictions", "explanations"]
    model: str
    version: str
    sha256: str
    image_sha256: str
    label: str
    probability: float | None = None
    positive: bool | None = None
    client: str
    filename: str | None = None
    request_id: str = ""

    @field_validator("time")
    @classmethod
    def _to_the_millisecond(cls, time: datetime) -> datetime:
        return time.replace(microsecond=time.microsecond // 1000 * 1000)

    @field_serializer("time", when_used="json")
    def _as_in_the_answer(self, time: datetime) -> str:
        return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Query:
    """Which results, newest first.

    Attributes
    ----------
    since, until
        From `since` (inclusive) to `until` (exclusive).
    text
        Stands anywhere in file name, id or image checksum (case does not matter).
    client
        Whose; None for everybody's.
    after
        `Page.next` of the page before.
    """

    model: str | None = None
    label: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    client: str | None = None
    after: str | None = None
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True)
class Page:
    """Some results, and the cursor of the next page; None on the last one.

    A cursor names a place between two results, so that what is added or deleted meanwhile shifts nothing.
    """

    results: tuple[Result, ...]
    next: str | None


class History(Protocol):
    """Where results are kept; each method raises HistoryError if that cannot be reached."""

    async def open(self) -> None:
        """Prepare it; to be called once before anything else."""

    async def add(self, results: Sequence[Result]) -> None:
        """Keep results, all or none."""

    async def find(self, query: Query) -> Page:
        """Return a page; raises `gateway.errors.BadRequest` if the cursor is none."""

    async def get(self, identity: str) -> Result | None:
        """Return one result."""

    async def delete(self, identity: str) -> bool:
        """Forget one result; say whether there was one."""

    async def expire(self, before: datetime) -> int:
        """Forget all results given before a time; return how many."""

    async def ping(self) -> None:
        """Raise HistoryError if it cannot be used."""

    async def close(self) -> None:
        """Let go of what it holds."""
