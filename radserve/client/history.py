"""Reads and deletes results in the history of a gateway."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

from radserve.client import response
from radserve.client.transport import Transport
from radserve.client.validation import validate
from radserve.errors import InvalidCallError, InvalidResponseError
from radserve.schema.history import HistoryEntry, HistoryPage

_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")
_PAGE_SIZE: Final = "200"


def find(transport: Transport, filters: Mapping[str, str | datetime | None]) -> Iterator[HistoryEntry]:
    """Yield matching results, newest first; requests a page when the previous one is consumed."""
    query = {name: _text(name, value) for name, value in filters.items() if value is not None} | {"limit": _PAGE_SIZE}
    while True:
        page = validate(HistoryPage, response.document(transport.request("GET", "api/results", params=query)))
        yield from page.results
        if page.next is None:
            return
        query["cursor"] = page.next


def get(transport: Transport, identifier: str) -> HistoryEntry:
    """Return one result."""
    return validate(HistoryEntry, response.document(transport.request("GET", _path(identifier))))


def delete(transport: Transport, identifier: str) -> None:
    """Delete one result."""
    deleted = transport.request("DELETE", _path(identifier), repeat=False)
    if deleted.status_code != HTTPStatus.NO_CONTENT:
        response.document(deleted)  # raises for 4xx and 5xx
        raise InvalidResponseError(f"The gateway answered {deleted.status_code} instead of 204; check the URL.")


def _path(identifier: str) -> str:
    if not identifier or not set(identifier) <= _ID_CHARACTERS:
        raise InvalidCallError(f"id has value {identifier!r}; use the `id` of a prediction or history entry.")
    return f"api/results/{identifier}"


def _text(name: str, value: str | datetime) -> str:
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise InvalidCallError(f"{name} has value {value}, which has no time zone.")
    return value.isoformat()
