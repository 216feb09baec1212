"""Renders predictions and errors as HTTP responses: JSON, PNG or problem details (RFC 9457)."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from handlers.content_negotiation import JSON, PNG, negotiate
from handlers.distribution import outcome_header
from handlers.errors import RequestError
from handlers.pipeline import PreparedImage
from handlers.threshold import Decision
from handlers.volume import Slice

PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Model:
    """Identity of the model, part of every prediction."""

    name: str
    version: str
    # of the archive, from the model store's index; None without an index, never under `radserve serve`
    sha256: str | None
    warning: str | None = None  # the recipe's warning
    profile: Mapping[str, str] | None = None  # name and SHA-256 of the site profile, if one is applied


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image, in each of its representations."""

    document: dict[str, Any]  # its JSON
    # view -> function that returns its PNG. The view `""` is the default of `Accept: image/png`.
    pictures: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    slice: Slice | None = None  # the image's part of a volume, where the task measures volumes
    rejection: RequestError | None = None  # of an unlike slice, unless `volume.accepts_unlike` its series


@dataclass(frozen=True)
class Response:
    """One HTTP response."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def model_document(model: Model) -> dict[str, Any]:
    """Return the first keys of every prediction: the model, its site profile and its warning."""
    document: dict[str, Any] = {"model": {"name": model.name, "version": model.version, "sha256": model.sha256}}
    if model.profile is not None:
        document["profile"] = dict(model.profile)
    return document if model.warning is None else document | {"warning": model.warning}


def checks_document(prepared: PreparedImage) -> dict[str, Any]:
    """Return the last keys of every prediction: the requested repair, and what was checked."""
    return ({} if prepared.repair is None else {"repair": prepared.repair.value}) | prepared.scope.document


def image_document(prepared: PreparedImage) -> dict[str, Any]:
    """Return the description of the decoded image, part of every prediction."""
    image = prepared.image
    document = {"format": image.format, "width": image.width, "height": image.height, "sha256": prepared.sha256}
    return document if image.frame is None else document | {"frame": image.frame}


def classification_document(model: Model, decision: Decision, prepared: PreparedImage) -> dict[str, Any]:
    """Return the prediction of a classifier."""
    return (
        model_document(model)
        | {
            "label": decision.label,
            "probability": decision.probabilities[decision.label],
            "probabilities": decision.probabilities,
            "positive": decision.positive,
            "threshold": decision.threshold,
            "image": image_document(prepared),
        }
        | ({} if decision.prevalence is None else {"prevalence": decision.prevalence})
        | ({} if decision.certainty is None else {"certainty": decision.certainty.document})
        | checks_document(prepared)
    )


def problem_details(error: RequestError) -> dict[str, Any]:
    """Return an error as problem details."""
    return {"status": error.status, "title": error.title, "detail": str(error)} | dict(error.members)


def render(prediction: Prediction, accept: str = "") -> Response:
    """Render a prediction in the representation that the client prefers; see `negotiate`."""
    view = negotiate(accept, prediction.pictures)
    if view is None:
        return Response(200, JSON, _dump(prediction.document))
    return Response(200, PNG, prediction.pictures[view](), _headers(prediction.document))


def _headers(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what a picture does not show: how the image compares with the training images, and its repair."""
    domain = document.get("domain", {})
    compared = "; ".join(domain[key] for key in ("mode", "status") if key in domain)
    headers = {"X-Domain": compared, "X-Repair": document.get("repair", "")}
    return {name: value for name, value in headers.items() if value}


def render_error(error: RequestError) -> Response:
    """Render an error as problem details, whatever the client accepts."""
    return Response(error.status, PROBLEM, _dump(problem_details(error)))


def with_outcome(response: Response, items: Iterable[Prediction | RequestError]) -> Response:
    """Add the header of `handlers.distribution.outcome_header` about the images of a request."""
    documents = [item.document if isinstance(item, Prediction) else item.members for item in items]
    return replace(response, headers={**response.headers, **outcome_header(documents)})


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
