"""Answers as clients see them: JSON, or problem details (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from handlers.decision import Decision
from handlers.errors import NotAcceptable, RequestError
from handlers.pipeline import Prepared

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Model:
    """Which model answers.

    Attributes
    ----------
    sha256
        Of the archive, as the model store's index lists it; None where the server was started
        without an index (`radserve serve` always has one).
    """

    name: str
    version: str
    sha256: str | None


@dataclass(frozen=True)
class Response:
    """One HTTP response: status, media type and body."""

    status: int
    media_type: str
    body: bytes


def classification(model: Model, decision: Decision, prepared: Prepared) -> dict[str, Any]:
    """Describe what the model says of one image."""
    return {
        "model": asdict(model),
        "label": decision.label,
        "probability": decision.probabilities[decision.label],
        "probabilities": decision.probabilities,
        "positive": decision.positive,
        "threshold": decision.threshold,
        "image": {
            "format": prepared.image.format,
            "width": prepared.image.width,
            "height": prepared.image.height,
            "sha256": prepared.sha256,
        },
    }


def problem(error: RequestError) -> dict[str, Any]:
    """Describe what went wrong with one request or image."""
    return {"status": error.status, "title": error.title, "detail": str(error)}


def render(document: dict[str, Any]) -> Response:
    """Render an answer."""
    return Response(200, JSON, _dump(document))


def refuse(error: RequestError) -> Response:
    """Render a refusal or failure."""
    return Response(error.status, PROBLEM, _dump(problem(error)))


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()


def negotiate(accept: str) -> None:
    """Check that the client takes JSON (RFC 9110, section 12.5.1).

    Raises
    ------
    NotAcceptable
        If every range of the Accept header excludes it.
    """
    if not accept.strip():
        return
    for item in accept.split(","):
        media, _, parameters = item.partition(";")
        quality = dict(_parameter(part) for part in parameters.split(";")).get("q", "1")
        if media.strip().lower() in ("*/*", "application/*", JSON) and quality.strip("0.") != "":
            return
    raise NotAcceptable(f"Accept: {accept[:200]} excludes {JSON}, the only form of this answer.")


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip()
