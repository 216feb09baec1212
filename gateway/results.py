"""Answers of the server as the gateway gives them: with an id, a time and the name of the file; pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from gateway import result_id
from gateway.backends.base import Reply, Verb
from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    ContentTooLargeError,
    NotFoundError,
    ProblemError,
    TooManyRequestsError,
    UnavailableError,
)
from gateway.history import Result

Document = dict[str, Any]

_LOST: Final = (
    UnavailableError,
    "The worker that had the request ended; another takes its place, so try again in some seconds.",
)
_OWN: Final = {
    400: (BadRequestError, "The server behind cannot read this request."),
    404: (NotFoundError, "The server behind does not serve this model or version; /api/models lists what it serves."),
    413: (
        ContentTooLargeError,
        "The request has more bytes than the server behind reads; send fewer or smaller images.",
    ),
    429: (TooManyRequestsError, "The server behind has too many requests; try again in some seconds."),
    503: (UnavailableError, "The server behind cannot take the request now; try again in some seconds."),
    507: _LOST,
}
"""What TorchServe says itself has neither a title nor a way out."""
_DIED: Final = b"Worker died"
"""TorchServe says so with 500 or 507, whichever of its threads sees it first."""
_PROBLEM: Final = "application/problem+json"


class UpstreamProblemError(ProblemError):
    """The server's own refusal, as it gave it."""

    def __init__(self, status: int, title: str, detail: str, headers: dict[str, str]) -> None:
        super().__init__(detail, headers)
        self.status = status
        self.title = title


def refusal(reply: Reply) -> ProblemError:
    """Return the problem that a reply with another status than 200 stands for."""
    headers = {"Retry-After": reply.retry_after} if reply.retry_after else {}
    if reply.status in (401, 403):
        return BadGatewayError(
            "The server behind does not take this gateway's key; its operator has to give it another."
        )
    if reply.media_type.startswith(_PROBLEM) and reply.status >= HTTPStatus.BAD_REQUEST:
        try:
            document = json.loads(reply.body)
            return UpstreamProblemError(reply.status, str(document["title"]), str(document["detail"]), headers)
        except (ValueError, KeyError, TypeError):
            pass  # said below: it is no answer
    other = (BadGatewayError, f"The server behind answered {reply.status}, without a reason.")
    kind, detail = _LOST if _DIED in reply.body else _OWN.get(reply.status, other)
    return kind(detail, headers)


def parse(reply: Reply) -> Document:
    """Read the document of a reply with status 200.

    Raises
    ------
    BadGateway
        If it is none: no label may come of it.
    """
    try:
        document = json.loads(reply.body)
    except ValueError as error:
        raise BadGatewayError("What the server behind answered is no JSON, so no part of it can be used.") from error
    if not isinstance(document, dict) or not all(_is_known(entry) for entry in entries(document)):
        raise BadGatewayError("What the server behind answered is no answer to an image, so no part of it can be used.")
    return document


def entries(document: Document) -> list[Document]:
    """Return the answers to single images within a document."""
    several = document.get("predictions")
    return several if isinstance(several, list) else [document]


def is_result(entry: Document) -> bool:
    """Whether it is an answer and no refusal."""
    return "label" in entry and "model" in entry


def _is_known(entry: object) -> bool:
    """Whether it is an answer, or a refusal in the place of one."""
    return isinstance(entry, dict) and (is_result(entry) or {"status", "title", "detail"} <= set(entry))


def annotated(document: Document, names: Sequence[str | None], time: datetime) -> Document:
    """Return a document whose answers have an id and a time, and the name of their file where one is known."""
    stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    several = isinstance(document.get("predictions"), list)
    items = entries(document)
    known = names if len(names) == len(items) else [None] * len(items)
    done = []
    for entry, name in zip(items, known, strict=True):
        called = entry.get("name") or name
        extra: Document = {"id": result_id.new(), "time": stamp} if is_result(entry) else {}
        done.append(extra | ({"filename": called} if called else {}) | entry)
    return document | {"predictions": done} if several else done[0]


def results(document: Document, verb: Verb, client: str, request_id: str, *, keep_names: bool) -> list[Result]:
    """Return what is kept of an annotated document.

    Raises
    ------
    BadGateway
        If an answer lacks what every answer has.
    """
    try:
        return [
            Result(
                id=entry["id"],
                time=entry["time"],
                verb=verb,
                model=entry["model"]["name"],
                version=entry["model"]["version"],
                sha256=entry["model"]["sha256"],
                image_sha256=entry["image"]["sha256"],
                label=entry["label"],
                probability=entry.get("probability"),
                positive=entry.get("positive"),
                client=client,
                filename=entry.get("filename") if keep_names else None,
                request_id=request_id,
            )
            for entry in entries(document)
            if is_result(entry)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BadGatewayError(
            "What the server behind answered lacks what every answer has; no part of it is used."
        ) from error
