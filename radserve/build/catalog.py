"""Catalog of the served models: labels, thresholds, scores and cards, read from the archives."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
    return {
        "version": entry.version,
        "sha256": entry.sha256,
        "share": share,
        "task": recipe.task,
        "title": recipe.title,
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
        "figures": figures(_read(archive, "metrics.json")),
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


def figures(metrics: bytes | None) -> dict[str, Any]:
    """Return the scores with confidence intervals from an archive's metrics; empty for a demonstration run."""
    report: Mapping[str, Any] = json.loads(metrics) if metrics is not None else {}
    if report.get("demonstration"):
        return {}
    scores = report.get("validation", {})
    return {
        name: score for name, score in scores.items() if isinstance(score, dict) and {"value", "ci95"} <= set(score)
    }


def card(archive: Path) -> bytes | None:
    """Return the model card of an archive (Markdown), if any."""
    return _read(archive, "CARD.md")


def _read(archive: Path, name: str) -> bytes | None:
    with mar.opened(archive) as opened:
        return mar.document(opened, name) if name in opened.namelist() else None
