"""Answers as clients see them: JSON, a picture, or problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from handlers.content_negotiation import JSON, PNG, negotiate
from handlers.decision import Decision
from handlers.errors import RequestError
from handlers.pipeline import Prepared
from handlers.volume import Slice

PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Model:
    """Which model answers.

    Attributes
    ----------
    sha256
        Of the archive, as the model store's index lists it; None where the server was started
        without an index (`radserve serve` always has one).
    warning
        The recipe's; stands in every answer.
    """

    name: str
    version: str
    sha256: str | None
    warning: str | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to one image, in each of its forms.

    Attributes
    ----------
    document
        What is sent as JSON.
    pictures
        View -> function that makes its PNG; the view `""` is what `Accept: image/png` asks for.
    slice
        What the image adds to a volume, where the task has volumes.
    """

    document: dict[str, Any]
    pictures: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    slice: Slice | None = None


@dataclass(frozen=True)
class Response:
    """One HTTP response: status, media type and body."""

    status: int
    media_type: str
    body: bytes


def head(model: Model) -> dict[str, Any]:
    """Begin the document of any task."""
    named = asdict(model)
    warning = named.pop("warning")
    return {"model": named} | ({} if warning is None else {"warning": warning})


def image(prepared: Prepared) -> dict[str, Any]:
    """Describe the image that was read, in the document of any task."""
    return {
        "format": prepared.image.format,
        "width": prepared.image.width,
        "height": prepared.image.height,
        "sha256": prepared.sha256,
    }


def classification(model: Model, decision: Decision, prepared: Prepared) -> dict[str, Any]:
    """Describe what the model says of one image."""
    return head(model) | {
        "label": decision.label,
        "probability": decision.probabilities[decision.label],
        "probabilities": decision.probabilities,
        "positive": decision.positive,
        "threshold": decision.threshold,
        "image": image(prepared),
    }


def problem(error: RequestError) -> dict[str, Any]:
    """Describe what went wrong with one request or image."""
    return {"status": error.status, "title": error.title, "detail": str(error)}


def render(answer: Answer, accept: str = "") -> Response:
    """Render an answer in the form that the client likes best; see `negotiate`."""
    view = negotiate(accept, answer.pictures)
    if view is None:
        return Response(200, JSON, _dump(answer.document))
    return Response(200, PNG, answer.pictures[view]())


def refuse(error: RequestError) -> Response:
    """Render a refusal or failure: problem details, whatever the client takes."""
    return Response(error.status, PROBLEM, _dump(problem(error)))


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
