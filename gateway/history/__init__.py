"""Result history: what it records, and the interface of its stores."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pydantic import field_serializer, field_validator

from radserve.schema.history import HistoryEntry, HistoryPage
from radserve.schema.types import Sha256

DEFAULT_LIMIT = 25
MAX_LIMIT = 200


class Result(HistoryEntry):
    """Stored result whose time has milliseconds. Rejected images and image contents are not stored."""

    sha256: Sha256

    @field_validator("time")
    @classmethod
    def _truncate_to_milliseconds(cls, time: datetime) -> datetime:
        return time.replace(microsecond=time.microsecond // 1000 * 1000)

    @field_serializer("time", when_used="json")
    def _format_time(self, time: datetime) -> str:
        return format_time(time)


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits; sorts by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def format_time(time: datetime) -> str:
    """Format a time as documents hold it: RFC 3339, UTC, milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Query:
    """Filter of results, newest first.

    Attributes
    ----------
    since, until
        From `since` (inclusive) to `until` (exclusive).
    text
        Part of file name, id or image checksum (case-insensitive).
    client
        Client whose results are returned; None for all.
    after
        `Page.next` of the previous page.
    """

    model: str | None = None
    label: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    client: str | None = None
    after: str | None = None
    limit: int = DEFAULT_LIMIT


class Page(HistoryPage):
    """Results, and the cursor of the next page (None on the last one).

    A cursor names a position between two results, so results that are added or deleted meanwhile shift nothing.
    """

    results: tuple[Result, ...]


class History(Protocol):
    """Store of results. Every method raises HistoryError if the store is unavailable."""

    async def open(self) -> None:
        """Prepare the store; called once before all other methods."""

    async def add(self, results: Sequence[Result]) -> None:
        """Add results, all or none."""

    async def find(self, query: Query) -> Page:
        """Return a page; raises BadRequestError for an invalid cursor."""

    async def get(self, result_id: str) -> Result | None:
        """Return a result."""

    async def delete(self, result_id: str) -> bool:
        """Delete a result; return whether it existed."""

    async def expire(self, before: datetime) -> int:
        """Delete all results older than a time; return their number."""

    async def ping(self) -> None:
        """Raise HistoryError if the store cannot be written."""

    async def close(self) -> None:
        """Release all resources."""
