"""Positions and cursors."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequestError
from gateway.history import Query
from gateway.history.cursor import Position, bounds, from_microseconds, microseconds
from tests.gateway.history.results import identity

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2255, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
PLACES = st.builds(lambda time: Position(microseconds(time), UUID(identity(time))), TIMES)


@given(PLACES)
def test_cursor_round_trips(place: Position) -> None:
    assert Position.parse(place.cursor) == place
    assert len(place.cursor) == 32


@given(PLACES, PLACES)
def test_packed_positions_sort_like_positions(one: Position, other: Position) -> None:
    assert (one < other) == (one.pack() < other.pack())
    assert ((one.time, str(one.id)) < (other.time, str(other.id))) == (one < other)


@given(st.one_of(st.text(), st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode())))
def test_api_rejects_invalid_cursor(text: str) -> None:
    try:
        place = Position.parse(text)
    except BadRequestError:
        return
    assert place.cursor == text


@given(st.datetimes(timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))))
def test_every_time_has_a_position(time: datetime) -> None:
    place = Position.before(time)
    if 0 < place.time < Position.last().time:
        assert from_microseconds(place.time) == time


def test_bounds_use_the_earlier_of_cursor_and_until() -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    place = Position(microseconds(time), UUID(identity(time)))
    assert bounds(Query(cursor=place.cursor, until=time + timedelta(days=1)))[1] == place
    assert bounds(Query(cursor=place.cursor, until=time - timedelta(days=1)))[1] < place


def test_cursor_with_other_uuid_version_is_rejected() -> None:
    with pytest.raises(BadRequestError):
        Position.parse(Position(1, UUID("12345678-1234-4234-9234-123456789abc")).cursor)
