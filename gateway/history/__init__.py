"""Result history: what it records, and the interface of its stores."""

import re
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, field_serializer, field_validator

from radserve.schema.history import HistoryEntry, HistoryPage
from radserve.schema.types import Sha256

MAX_LIMIT: Final = 200
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


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


@dataclass(frozen=True)
class Details:
    """Prediction document of a result, without pictures, and its mask or heat map as PNG."""

    prediction: Mapping[str, Any]
    overlay: bytes | None = None


NO_DETAILS: Final[Mapping[str, Details]] = MappingProxyType({})


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits; sorts by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))


def format_time(time: datetime) -> str:
    """Format a time as documents hold it: RFC 3339, UTC, milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _require_rfc3339(value: object) -> object:
    """Reject numbers, which pydantic would take for seconds since 1970."""
    if isinstance(value, str) and not _TIME.match(value):
        raise ValueError("use a time like 2026-03-01T12:30:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_require_rfc3339)]
_BOOLEANS: Final = {"true": True, "false": False}


def _require_json_boolean(value: object) -> object:
    """Reject the other words that pydantic would accept, such as "on" and "1"."""
    if not isinstance(value, str):
        return value
    if value not in _BOOLEANS:
        raise ValueError("use true or false")
    return _BOOLEANS[value]


Boolean = Annotated[bool, BeforeValidator(_require_json_boolean)]


def _require_digits(value: object) -> object:
    """Reject the other notations that pydantic would accept, such as "5.0", " 5" and "5_0"."""
    if isinstance(value, str) and not re.fullmatch("[0-9]+", value):
        raise ValueError(f"{value[:32]!r} is not a whole number in digits, such as 25")
    return value


class Filter(BaseModel):
    """Filter of results; times are from `since` (inclusive) to `until` (exclusive)."""

    model: Annotated[str | None, Field(min_length=1, max_length=64, description="Name of the model.")] = None
    version: Annotated[str | None, Field(min_length=1, max_length=64, description="Version of the model.")] = None
    label: Annotated[str | None, Field(min_length=1, max_length=128, description="Reported label.")] = None
    positive: Annotated[Boolean | None, Field(description="Whether the result is above the cut-off.")] = None
    explain: Annotated[
        Boolean | None, Field(description="`true` for results with a heat map, `false` for those without.")
    ] = None
    since: Annotated[Time | None, Field(description="Start, inclusive; RFC 3339 with an offset.")] = None
    until: Annotated[Time | None, Field(description="End, exclusive; RFC 3339 with an offset.")] = None
    image: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the image as sent, in lower case."),
    ] = None
    group: Annotated[
        str | None,
        Field(min_length=1, max_length=64, description="`group_id` of images that were sent together."),
    ] = None
    text: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="Part of file name, id or image checksum, ignoring case."),
    ] = None


class PageRequest(Filter):
    """Page of filtered results, newest first."""

    cursor: Annotated[
        str | None,
        Field(max_length=256, description="`next` of the previous page.", json_schema_extra={"minLength": 1}),
    ] = None
    limit: Annotated[
        int,
        BeforeValidator(_require_digits),
        Field(ge=1, le=MAX_LIMIT, description="Most results of the page, or requests, as `count` says."),
    ] = 25
    count: Annotated[
        Literal["results", "requests"],
        Field(
            description="What `limit` counts. A page of `requests` has all results of a request of which one matches, "
            "such as the slices of a series; a long page ends before `limit`."
        ),
    ] = "results"


class Query(PageRequest):
    """Page of the results of one client, or of all clients (None)."""

    client: str | None = None

    @property
    def values(self) -> dict[str, str | bool]:
        """Fields of a result, and the values that the filters demand; times and text are compared in other ways."""
        names = {"image": "image_sha256", "explain": "explained", "group": "group_id"}
        fields = self.model_dump(include={"client", "label", "model", "version", "positive", *names})
        return {names.get(name, name): value for name, value in fields.items() if value is not None}

    @property
    def splits_requests(self) -> bool:
        """Whether some results of a request may match and others not."""
        return self.text is not None or bool(self.values.keys() - {"client", "group_id"})


class Page(HistoryPage):
    """Results, and the cursor of the next page, None on the last one.

    A cursor names a position between two results, so results that are added or deleted meanwhile shift nothing.
    """

    results: tuple[Result, ...]


class History(Protocol):
    """Store of results. Every method raises HistoryError if the store is unavailable."""

    async def add(self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS) -> None:
        """Add results, all or none, with the details that exist, by id."""

    async def find(self, query: Query) -> Page:
        """Return a page; raises BadRequestError for an invalid cursor."""

    async def get(self, result_id: str) -> Result | None:
        """Return a result."""

    async def details(self, result_id: str) -> Details | None:
        """Return the details of a result; None without any."""

    async def add_explanations(
        self, results: Sequence[Result], details: Mapping[str, Details] = NO_DETAILS
    ) -> Mapping[str, Result]:
        """Add explanations, all or none: to their predictions, and those without a prediction as `add` does.

        The document of a prediction gets the key `explanation` and is otherwise unchanged. A heat map replaces an
        earlier one. Returns the predictions by the ids of their explanations.
        """

    async def delete(self, result_id: str) -> bool:
        """Delete a result and its details; return whether it existed."""

    async def expire(self, before: datetime) -> int:
        """Delete all results older than a time, and their details; return their number."""

    async def ping(self) -> None:
        """Write to the store, which creates or connects it if necessary."""

    async def close(self) -> None:
        """Release all resources."""
