"""What a gateway keeps of the answers that it gave, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import StrictBool, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from radserve.client import response
from radserve.client.transport import Transport
from radserve.errors import InvalidCallError, InvalidResponseError
from radserve.schema.prediction import Sha256, Share, Text

_HEXADECIMAL: Final = frozenset("0123456789abcdef-")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One answer of the past; never its image.

    Attributes
    ----------
    id
        As the answer had it.
    verb
        What was asked.
    sha256, image_sha256
        Of the archive that answered, and of the image as sent.
    probability
        Of `label`; None where the answer had none (segmentation).
    client
        Name of the key that asked.
    filename
        Where the gateway keeps names.
    """

    id: Text
    time: datetime
    verb: Literal["predictions", "explanations"]
    model: Text
    version: Text
    sha256: Sha256 | None
    image_sha256: Sha256
    label: Text
    probability: Share | None = None
    positive: StrictBool | None = None
    client: Text
    filename: str | None = None
    request_id: str = ""


_RESULT: Final = TypeAdapter(Result)


def find(
    transport: Transport,
    *,
    model: str | None,
    label: str | None,
    since: datetime | None,
    until: datetime | None,
    text: str | None,
) -> Iterator[Result]:
    """Return results, the newest first, asking for a page when the one before is used up."""
    times = {"since": _time("since", since), "until": _time("until", until)}
    asked = {"model": model, "label": label, "text": text} | times
    query = {key: value for key, value in asked.items() if value is not None} | {"limit": "200"}
    while True:
        match response.document(transport.read("api/results", query)):
            case {"results": list(items), "next": (str() | None) as cursor}:
                yield from map(_read, items)
            case _:
                raise InvalidResponseError("The answer is no page of results. Nothing of it is used.")
        if cursor is None:
            return
        query["cursor"] = cursor


def get(transport: Transport, identity: str) -> Result:
    """Return one result."""
    return _read(response.document(transport.read(_path(identity))))


def delete(transport: Transport, identity: str) -> None:
    """Let the gateway forget one result."""
    answer = transport.delete(_path(identity))
    if answer.status_code == HTTPStatus.NO_CONTENT:
        return
    response.document(answer)  # says what is wrong
    raise InvalidResponseError("The answer does not say that the result is gone.")


def _path(identity: str) -> str:
    if not identity or not set(identity) <= _HEXADECIMAL:
        raise InvalidCallError(f"id has value {identity!r}; it is the `id` of an answer or of a result.")
    return f"api/results/{identity}"


def _time(name: str, value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise InvalidCallError(f"{name} has value {value}, which names no time zone.")
    return value.isoformat()


def _read(document: Any) -> Result:
    try:
        return _RESULT.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InvalidResponseError(
            f"The answer is no result ({where}: {first['msg']}). Nothing of it is used."
        ) from error
