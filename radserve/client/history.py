"""Calls for the history of a gateway."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypedDict

import httpx

from radserve.client import response, validation
from radserve.client.call import Call
from radserve.client.uploads import require_no_content
from radserve.errors import InvalidCallError
from radserve.schema.history import HistoryPage, StoredResult

_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")
_PAGE_SIZE: Final = "200"


class Filters(TypedDict, total=False):
    """Keyword arguments that select results of the history; all are optional.

    Attributes
    ----------
    positive
        Whether the result is above the cut-off.
    explain
        Whether the result has a heat map.
    since, until
        Start (inclusive) and end (exclusive), with time zones.
    image
        SHA-256 of the image as sent, such as `result.image.sha256`.
    group
        `group_id` of images that were sent together.
    text
        Part of the file name, of the id or of the image's checksum.
    """

    model: str | None
    version: str | None
    label: str | None
    positive: bool | None
    explain: bool | None
    since: datetime | None
    until: datetime | None
    image: str | None
    group: str | None
    text: str | None


def query(filters: Filters) -> dict[str, str]:
    """Return the query of filters; raises InvalidCallError for a time without a zone, TypeError for another name."""
    unknown = [name for name in filters if name not in Filters.__annotations__]
    if unknown:
        known = ", ".join(Filters.__annotations__)
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; the filters are {known}")
    return {name: _text(name, value) for name, value in filters.items() if value is not None}


def page(filters: Mapping[str, str], cursor: str) -> Call[HistoryPage]:
    """Return the call for one page of the history; an empty cursor is that of the first page."""
    params = {**filters, "limit": _PAGE_SIZE} | ({"cursor": cursor} if cursor else {})
    return Call("GET", "api/results", None, _page, {"params": params})


def entry(identifier: str) -> Call[StoredResult]:
    """Return the call for one stored result."""
    return Call(
        "GET", _path(identifier), None, lambda reply: validation.validate(StoredResult, response.document(reply))
    )


def delete(identifier: str) -> Call[None]:
    """Return the call that deletes one stored result."""
    return Call("DELETE", _path(identifier), None, require_no_content, repeat=False)


def _page(reply: httpx.Response) -> HistoryPage:
    return validation.validate(HistoryPage, response.document(reply))


def _path(identifier: str) -> str:
    if not identifier or not set(identifier) <= _ID_CHARACTERS:
        raise InvalidCallError(f"id has value {identifier!r}; use the `id` of a prediction or history entry.")
    return f"api/results/{identifier}"


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, datetime):
        return str(value)
    if value.tzinfo is None:
        raise InvalidCallError(f"{name} has value {value}, which has no time zone.")
    return value.isoformat()
