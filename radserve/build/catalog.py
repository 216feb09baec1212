"""Catalog of the served models: labels, thresholds, scores and cards, read from the archives."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from handlers.certainty import band
from handlers.recipe import Recipe
from radserve.build import mar
from radserve.build.model_store import Entry
from radserve.schema.domain import Mode


def version(
    entry: Entry,
    recipe: Recipe,
    archive: Path,
    share: float,
    mode: Mode = "strict",
    profile: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe one version, which receives `share` percent of the model's requests, as in `CatalogVersion`.

    `mode` is what the server does with images unlike the training images. The recipe is the one that is served: with
    the sections of the site profile, to which `profile` refers.
    """
    decision = recipe.decision
    report = _report(_read(archive, "metrics.json"))
    return {
        "version": entry.version,
        "sha256": entry.sha256,
        "share": share,
        "task": recipe.task,
        "title": recipe.title,
        "display": recipe.display.model_dump() if recipe.display else None,
        "labels": recipe.labels,
        "positive": decision.positive if decision else None,
        "threshold": decision.threshold if decision else None,
        "prevalence": recipe.calibration.prevalence,
        "profile": profile,
        "explains": recipe.explains,
        "input": {"color": recipe.input.color, "height": recipe.input.height, "width": recipe.input.width},
        "scope": recipe.scope.attributes,
        "domain": None if recipe.detector is None else mode,
        "trained_on": recipe.trained_on,
        "licence": recipe.licence,
        "warning": recipe.warning,
        "uncertain": uncertain(recipe),
        "figures": figures(report),
        "held_out": held_out(report),
        "rejections": rejections(report, recipe),
    }


def catalog(versions: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Group described versions by the model's name; the version with the largest share comes first."""
    models: dict[str, list[dict[str, Any]]] = {}
    for name, description in versions:
        models.setdefault(name, []).append(description)
    return {
        "models": [
            {"name": name, "versions": sorted(items, key=lambda item: -item["share"])}
            for name, items in sorted(models.items())
        ]
    }


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores with confidence intervals from an archive's metrics."""
    scores = report.get("validation", {})
    return {
        name: score for name, score in scores.items() if isinstance(score, dict) and {"value", "ci95"} <= set(score)
    }


def held_out(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the numbers of held-out images, of all and of each label, from an archive's metrics."""
    images = report.get("split", {}).get("validation")
    return None if images is None else {"images": images["images"], "labels": images["labels"]}


def rejections(report: Mapping[str, Any], recipe: Recipe) -> dict[str, Any] | None:
    """Return the numbers of held-out images, and of those that the detector rejects, from an archive's metrics."""
    measured = report.get("refusals", {})
    kind = measured.get("kinds", {}).get("held out")
    if kind is None or recipe.detector is None or measured["detector_sha256"] != recipe.detector.sha256:
        return None
    return {"images": kind["images"], "rejected": kind["refused"]}


def uncertain(recipe: Recipe) -> tuple[float, float] | None:
    """Return the probabilities of the positive label, from and to, at which a result is uncertain.

    Outside of them the prediction set holds the decided label alone (`handlers.certainty`), unless a second pass
    contradicts it.
    """
    decision = recipe.decision
    if decision is None or recipe.uncertainty is None:
        return None
    quantiles = recipe.uncertainty.quantiles
    (negative,) = (label for label in recipe.labels if label != decision.positive)
    close = band(decision.threshold, recipe.uncertainty.margin)
    limits = (*close, quantiles[negative], 1 - quantiles[decision.positive])
    return (min(limits), max(limits)) if min(limits) < max(limits) else None


def card(archive: Path) -> bytes | None:
    """Return the model card of an archive (Markdown), if any."""
    return _read(archive, "CARD.md")


def _report(metrics: bytes | None) -> Mapping[str, Any]:
    """Parse an archive's metrics; those of a demonstration run are not shown."""
    report: dict[str, Any] = json.loads(metrics) if metrics is not None else {}
    return {} if report.get("demonstration") else report


def _read(archive: Path, name: str) -> bytes | None:
    with mar.opened(archive) as opened:
        return mar.document(opened, name) if name in opened.namelist() else None
