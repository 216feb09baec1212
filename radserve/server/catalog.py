"""What is served, for those who ask models: labels, thresholds, figures, cards and samples, out of the archives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from handlers.recipe import Recipe
from radserve.build.model_store import Entry

CARD: Final = "CARD.md"
_METRICS: Final = "metrics.json"


def version(entry: Entry, recipe: Recipe, archive: Path, share: float) -> dict[str, Any]:
    """Describe one version.

    Parameters
    ----------
    archive
        The .mar.
    share
        Percent of the model's requests that it gets.
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
        "explains": recipe.task == "classification",
        "input": {"color": recipe.input.color, "height": recipe.input.height, "width": recipe.input.width},
        "trained_on": recipe.trained_on,
        "licence": recipe.licence,
        "warning": recipe.warning,
        "figures": figures(_read(archive, _METRICS)),
    }


def catalog(versions: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Put the versions of models together, by the model's name; the one with the largest share first."""
    models: dict[str, list[dict[str, Any]]] = {}
    for name, found in versions:
        models.setdefault(name, []).append(found)
    ordered = {name: sorted(found, key=lambda item: -item["share"]) for name, found in sorted(models.items())}
    return {"models": [{"name": name, "versions": found} for name, found in ordered.items()]}


def figures(metrics: bytes | None) -> dict[str, Any]:
    """Take the scores with their intervals out of an archive's metrics; none where a run only showed that it trains."""
    found: Mapping[str, Any] = json.loads(metrics) if metrics is not None else {}
    if not found or found.get("demonstration"):
        return {}
    scores = found.get("validation", {})
    return {
        name: score for name, score in scores.items() if isinstance(score, dict) and {"value", "ci95"} <= set(score)
    }


def card(archive: Path) -> bytes | None:
    """Return the card of an archive (Markdown), if it has one."""
    return _read(archive, CARD)


def _read(archive: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(archive) as packed:
        return packed.read(name) if name in packed.namelist() else None
