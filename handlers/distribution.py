"""Bins of labels, probabilities and detector percentiles, and their shares among the validation images.

Serving and `radserve evaluate` count with the same functions, so the shares of both can be compared.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.errors import MetricsError
from handlers.recipe import Recipe, Sha256
from handlers.threshold import shift
from handlers.validation_error import describe

logger = logging.getLogger(__name__)

Kind = Literal["label", "probability", "domain"]
"""`domain` is the percentile of the detector's score."""
Bin = tuple[Kind, str]
"""A label, or the upper bound of a tenth, which belongs to it."""
_TENTHS: Final = tuple(range(1, 11))
_MAX_HEADER: Final = 600
"""Characters of the header; the proxy sends it to the supervisor in one datagram of at most 1024 bytes."""


def bins(recipe: Recipe) -> list[Bin]:
    """Return every bin that a model can have."""
    result: list[Bin] = [("label", clean(label)) for label in recipe.labels]
    if recipe.task == "classification":
        result += [("probability", f"{tenth / 10:g}") for tenth in _TENTHS]
    if recipe.detector is not None:
        result += [("domain", str(10 * tenth)) for tenth in _TENTHS]
    return result


def of_prediction(recipe: Recipe, document: Mapping[str, Any]) -> list[Bin]:
    """Return the bins of a prediction: its label and, of a classifier, its probability."""
    label: Bin = ("label", clean(document["label"]))
    if "probabilities" not in document:
        return [label]
    return [label, ("probability", f"{_tenth(probability(recipe, document)) / 10:g}")]


def of_percentile(percentile: float) -> Bin:
    """Return the bin of the percentile of a detector's score."""
    return "domain", str(10 * _tenth(percentile / 100))


def probability(recipe: Recipe, document: Mapping[str, Any]) -> float:
    """Return the probability of the positive label, else of the predicted one, at the prevalence of the recipe.

    A prevalence that the client states changes the probabilities, although the images are the same.
    """
    label = document["label"] if recipe.decision is None else recipe.decision.positive
    value, assumed = float(document["probabilities"][label]), recipe.calibration.prevalence
    return value if assumed is None else shift(value, document.get("prevalence", assumed), assumed)


def shares(counted: Iterable[Bin], every: Iterable[Bin]) -> dict[Kind, dict[str, float]]:
    """Return the share of each bin within its kind, for the kinds that were counted."""
    counts = Counter(counted)
    totals = Counter[Kind]()
    for (kind, _), count in counts.items():
        totals[kind] += count
    result: dict[Kind, dict[str, float]] = {}
    for kind, name in every:
        if totals[kind]:
            result.setdefault(kind, {})[name] = round(counts[kind, name] / totals[kind], 4)
    return result


def outcome_header(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the header that states labels and domain statuses of a request to the proxy; empty without any.

    `X-Outcome: label:pneumonia:2,domain:normal:2` for predictions, or problems, of two images. A rollout compares the
    versions by it; the proxy does not forward it to clients.
    """
    counts = Counter[tuple[str, str]]()
    for document in documents:
        values = {"label": document.get("label"), "domain": document.get("domain", {}).get("status")}
        counts.update((kind, quote(value, safe="")) for kind, value in values.items() if value)
    text = ",".join(f"{kind}:{value}:{count}" for (kind, value), count in counts.items())
    return {"X-Outcome": text} if 0 < len(text) <= _MAX_HEADER else {}


def clean(label: str) -> str:
    """Replace the delimiters of TorchServe's lines in a label."""
    return re.sub(r"[\s,:|#]+", " ", label).strip()


def _tenth(value: float) -> int:
    """Return the number, from 1, of the tenth of [0, 1] that contains a value; its upper bound is part of it."""
    return next(tenth for tenth in _TENTHS if value <= tenth / 10 or tenth == _TENTHS[-1])


class Reference(BaseModel):
    """Key `reference` of an archive's `metrics.json`: shares of the bins among the validation images."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shares: dict[Kind, dict[str, Annotated[float, Field(ge=0, le=1)]]]
    detector_sha256: Sha256 | None = None  # of the detector that gave the percentiles


class _Metrics(BaseModel):
    """The keys of `metrics.json` that monitoring needs."""

    model_config = ConfigDict(allow_inf_nan=False)

    temperature: float
    threshold: float | None = None
    reference: Reference


def check(path: Path) -> None:
    """Raise `MetricsError` for a `metrics.json` with an invalid reference."""
    _read(path)


def _read(path: Path) -> _Metrics | None:
    """Read the keys that monitoring needs; None without file or reference."""
    try:
        document = json.loads(path.read_bytes()) if path.is_file() else {}
        if isinstance(document, dict) and "reference" not in document:
            return None
        return _Metrics.model_validate(document)
    except ValueError as error:
        reason = describe(error) if isinstance(error, ValidationError) else str(error)
        raise MetricsError(f"{path}: the reference of monitoring is invalid: {reason}.") from error


def load(folder: Path, recipe: Recipe, *, has_profile: bool = False) -> dict[Bin, float]:
    """Return the share of each bin among the validation images, without those that do not apply to the recipe.

    Label and probability depend on calibration and threshold, which a site profile replaces; the percentile depends on
    the detector. A reference that is invalid is logged and ignored: monitoring does not stop serving.
    """
    try:
        metrics = _read(folder / "metrics.json")
    except MetricsError as error:
        logger.warning("%s Evaluate the model and build it again.", error)
        return {}
    if metrics is None:
        return {}
    threshold = None if recipe.decision is None else recipe.decision.threshold
    same_decision = (metrics.temperature, metrics.threshold) == (recipe.calibration.temperature, threshold)
    same_decision = same_decision and not has_profile
    reference = metrics.reference
    same_detector = recipe.detector is not None and reference.detector_sha256 == recipe.detector.sha256
    applies = {"label": same_decision, "probability": same_decision, "domain": same_detector}
    return {
        (kind, name): share
        for kind, values in reference.shares.items()
        if applies[kind]
        for name, share in values.items()
    }
