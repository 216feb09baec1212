"""A data set, split and read, ready to train a recipe's network on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handlers.recipe import Input, Recipe
from training import datasets
from training.batches import Images
from training.datasets import Example, pixels, split, statistics
from training.errors import DataError
from training.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """Both sides of a split in memory.

    Attributes
    ----------
    spec
        The recipe's input with the statistics of the training side.
    split
        Its sha256.
    """

    train: Images
    validation: Images
    spec: Input
    split: str


def prepare(recipe: Recipe, settings: Settings, folder: Path) -> Prepared:
    """Find, split and read a data set.

    Raises
    ------
    DataError
        If the folder does not hold what the recipe needs.
    """
    examples = datasets.find(settings.data, folder)
    _check(examples, recipe.labels, folder)
    sides = split.by_group(examples, settings.validation, settings.seed)
    train = _images([examples[place] for place in sides.train], recipe)
    validation = _images([examples[place] for place in sides.validation], recipe)
    found = statistics.of_pixels(train.pixels, recipe.input.channels)
    spec = recipe.input.model_copy(update={"mean": found.mean, "std": found.std})
    return Prepared(train, validation, spec, sides.sha256)


def whole(recipe: Recipe, settings: Settings, folder: Path) -> tuple[Images, str]:
    """Read a data set without a split, for measuring on what was never trained on.

    Returns
    -------
    All images, and the sha256 of the list of them.

    Raises
    ------
    DataError
        If the folder does not hold what the recipe needs.
    """
    examples = datasets.find(settings.data, folder)
    _check(examples, recipe.labels, folder)
    return _images(examples, recipe), split.digest(examples, [True] * len(examples))


def _check(examples: Sequence[Example], labels: Sequence[str], folder: Path) -> None:
    found = {example.label for example in examples}
    if found != set(labels):
        raise DataError(f"{folder}: holds images of {sorted(found)}; the recipe's labels are {list(labels)}.")


def _images(examples: Sequence[Example], recipe: Recipe) -> Images:
    masked = recipe.task == "segmentation"
    return Images(
        masks=pixels.masks(examples, recipe.input) if masked else None,
        pixels=pixels.read(examples, recipe.input),
        targets=torch.tensor([recipe.labels.index(example.label) for example in examples]),
        groups=tuple(example.group for example in examples),
    )
