"""Order of results (newest first), and cursors that name a position in it."""

import base64
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID

from gateway.errors import BadRequestError
from gateway.history import Query, Result

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PACKED: Final = struct.Struct(">Q16s")
_MAX_TIME: Final = 2**53 - 1
"""In the year 2255."""
_ALPHABET: Final = b"-_"
_NEWEST_ID: Final = UUID(int=2**128 - 1 & ~(0x8 << 76) & ~(0x4 << 60))
"""Greatest UUID version 7."""
BETWEEN_REQUESTS: Final = "requests."
"""Start of cursors that split no request."""


@dataclass(frozen=True, order=True)
class Position:
    """Position of a result: by time in microseconds since 1970, then by id."""

    time: int
    id: UUID

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return the position of a result."""
        return cls(microseconds(result.time), UUID(result.id))

    @classmethod
    def before(cls, time: datetime) -> Self:
        """Return the position before all results of a time."""
        return cls(microseconds(time), UUID(int=0))

    @classmethod
    def newest(cls, time: int) -> Self:
        """Return the greatest position of a time, where its newest results begin."""
        return cls(time, _NEWEST_ID)

    @classmethod
    def last(cls) -> Self:
        """Return the position after all results."""
        return cls(_MAX_TIME, UUID(int=2**128 - 1))

    def pack(self) -> bytes:
        """Return 24 bytes that sort like positions."""
        return _PACKED.pack(self.time, self.id.bytes)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Return the position that `pack` encoded."""
        time, id_bytes = _PACKED.unpack(packed)
        return cls(time, UUID(bytes=id_bytes))

    @property
    def cursor(self) -> str:
        """Opaque name of the position for clients."""
        return base64.b64encode(self.pack(), _ALPHABET).decode()

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Return the position of a cursor; raises BadRequestError for an invalid one."""
        try:
            position = cls.unpack(
                base64.b64decode(cursor.removeprefix(BETWEEN_REQUESTS).encode(), _ALPHABET, validate=True)
            )
            if position.time > _MAX_TIME or position.id.version != 7:
                raise ValueError(cursor)
        except (ValueError, struct.error) as error:
            raise BadRequestError("Invalid cursor; omit it to start over.") from error
        return position


def bounds(query: Query) -> tuple[Position, Position]:
    """Return the range of a query, from the first position (inclusive) to the second; raises BadRequestError."""
    after = Position.last() if query.cursor is None else Position.parse(query.cursor)
    until = Position.last() if query.until is None else Position.before(query.until)
    since = Position(0, UUID(int=0)) if query.since is None else Position.before(query.since)
    return since, min(after, until)


def microseconds(time: datetime) -> int:
    """Return microseconds since 1970, clipped to what a position can hold."""
    return min(max((time - _EPOCH) // timedelta(microseconds=1), 0), _MAX_TIME)


def from_microseconds(time: int) -> datetime:
    """Return the time of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=time)
