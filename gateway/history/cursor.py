"""The order of results, newest first, and cursors, each of which names a place in it."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID

from gateway.errors import BadRequestError
from gateway.history import Query, Result

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PACKED: Final = struct.Struct(">Q16s")
_LATEST: Final = 2**53 - 1
"""In the year 2255."""
_ALPHABET: Final = b"-_"


@dataclass(frozen=True, order=True)
class Place:
    """Where a result stands: by its time, then by its id.

    Attributes
    ----------
    time
        Microseconds since 1970.
    """

    time: int
    id: UUID

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return the place of a result."""
        return cls(microseconds(result.time), UUID(result.id))

    @classmethod
    def before(cls, time: datetime) -> Self:
        """Return the place before every result of a time and later ones."""
        return cls(microseconds(time), UUID(int=0))

    @classmethod
    def last(cls) -> Self:
        """Return the place after every result."""
        return cls(_LATEST, UUID(int=2**128 - 1))

    def pack(self) -> bytes:
        """Return 24 bytes, which sort as places do."""
        return _PACKED.pack(self.time, self.id.bytes)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Return the place that bytes stand for."""
        time, identity = _PACKED.unpack(packed)
        return cls(time, UUID(bytes=identity))

    @property
    def cursor(self) -> str:
        """Name of this place for clients, to whom it says nothing."""
        return base64.b64encode(self.pack(), _ALPHABET).decode()

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Return the place that a cursor names.

        Raises
        ------
        BadRequest
            If it is none.
        """
        try:
            place = cls.unpack(base64.b64decode(cursor.encode(), _ALPHABET, validate=True))
        except (binascii.Error, struct.error) as error:
            raise _none() from error
        if place.time > _LATEST or place.id.version != 7:
            raise _none()
        return place


def bounds(query: Query) -> tuple[Place, Place]:
    """Return between which places a query looks: after the first (or at it), and before the second.

    Raises
    ------
    BadRequest
        If its cursor is none.
    """
    after = Place.last() if query.after is None else Place.parse(query.after)
    until = Place.last() if query.until is None else Place.before(query.until)
    since = Place(0, UUID(int=0)) if query.since is None else Place.before(query.since)
    return since, min(after, until)


def microseconds(time: datetime) -> int:
    """Return the microseconds since 1970, within what a place can hold."""
    return min(max((time - _EPOCH) // timedelta(microseconds=1), 0), _LATEST)


def moment(time: int) -> datetime:
    """Return the time that microseconds since 1970 stand for."""
    return _EPOCH + timedelta(microseconds=time)


def _none() -> BadRequestError:
    return BadRequestError("The cursor is none that was given here; begin without one.")
