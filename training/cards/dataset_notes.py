"""Texts about each data set for model cards: intended use, limits and published results."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from training.errors import SettingsError


@dataclass(frozen=True)
class DatasetNotes:
    """Texts about a data set, as in `datasets.yaml`."""

    unit: str  # plural noun for its images
    group: str  # plural noun for what is never split
    source: str  # origin of the images
    intended_use: str
    out_of_scope: str
    limits: str  # what the data cannot show, as sentences
    published: str  # published results, and how they relate to ours
    licence: str  # of weights that are trained on it, as Hugging Face names it
    licence_note: str  # what the licence of the data means for the weights


@cache
def load() -> dict[str, DatasetNotes]:
    """Read the texts of all data sets."""
    texts = yaml.safe_load(Path(__file__).with_name("datasets.yaml").read_text(encoding="utf-8"))
    return {name: DatasetNotes(**notes) for name, notes in texts.items()}


def for_dataset(name: str) -> DatasetNotes:
    """Return the texts for a data set; `SettingsError` if there are none."""
    if name not in load():
        raise SettingsError(f"data: unknown data set {name!r}. Available: {', '.join(load())}.")
    return load()[name]
