"""Writes the cards of model folders from their data: `radserve cards`."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from handlers import recipe as recipes
from training import settings
from training.cards.card import card


def write(archives: Path, names: Iterable[str] = ()) -> Iterator[Path]:
    """Regenerate the cards of the named models, or of all that have training settings; yield their paths."""
    folders = [archives / name for name in names] or sorted(
        path.parent for path in archives.glob("*/training.yaml") if (path.parent / "archive.yaml").is_file()
    )
    for folder in folders:
        path = folder / "CARD.md"
        path.write_text(render(folder), encoding="utf-8")
        yield path


def render(folder: Path) -> str:
    """Return the card of a model's folder: recipe, metrics if there are any, and the texts of its data set."""
    metrics = folder / "metrics.json"
    measured = json.loads(metrics.read_bytes()) if metrics.is_file() else None
    return card(recipes.load(folder / "archive.yaml"), measured, settings.load(folder / "training.yaml").data)
