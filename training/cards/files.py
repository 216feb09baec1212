"""Writes the cards of model folders from their data: `radserve cards`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.cards import chai
from training.cards.card import card


def write(archives: Path, names: Iterable[str] = (), chai_folder: Path | None = None) -> Iterator[Path]:
    """Regenerate the cards of the named models, or of all that have training settings; yield their paths.

    `chai_folder` also gets `NAME.xml`, the cards in the format of the Coalition for Health AI.
    """
    folders = [archives / name for name in names] or sorted(
        path.parent for path in archives.glob("*/training.yaml") if (path.parent / "archive.yaml").is_file()
    )
    for folder in folders:
        path = folder / "CARD.md"
        path.write_text(render(folder), encoding="utf-8")
        yield path
        if chai_folder is not None:
            path = chai_folder / f"{folder.name}.xml"
            path.write_text(chai.document(*_data(folder)), encoding="utf-8")
            yield path


def write_report(recipe: Recipe, metrics: Mapping[str, Any], folder: Path) -> None:
    """Write metrics and card to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = card(recipe, metrics, metrics["data"])
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / "CARD.md").write_text(text, encoding="utf-8")


def render(folder: Path) -> str:
    """Return the card of a model's folder: recipe, metrics if there are any, and the texts of its data set."""
    return card(*_data(folder))


def _data(folder: Path) -> tuple[Recipe, Mapping[str, Any] | None, str]:
    metrics = folder / "metrics.json"
    measured = json.loads(metrics.read_bytes()) if metrics.is_file() else None
    return recipes.load(folder / "archive.yaml"), measured, settings.load(folder / "training.yaml").data
