"""Data of a training run: a data set, split and read into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handlers.recipe import Input, Recipe
from training import datasets
from training.batches import Images
from training.datasets import Example, pixels, split
from training.errors import DataError
from training.settings import Settings


@dataclass(frozen=True)
class Sides:
    """Both sides of a split, without pixels."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    sha256: str  # of the split


@dataclass(frozen=True)
class TrainingData:
    """Both sides of a split in memory."""

    train: Images
    validation: Images
    spec: Input  # the recipe's input, with mean and standard deviation of the training side
    sides: Sides

    @property
    def split(self) -> str:
        """SHA-256 of the split."""
        return self.sides.sha256


def load_sides(recipe: Recipe, settings: Settings, folder: Path) -> Sides:
    """Find and split a data set; `DataError` if it lacks the labels that the recipe needs."""
    examples = _find(recipe, settings, folder)
    sides = split.by_group(examples, settings.validation, settings.seed)
    train, validation = (tuple(examples[index] for index in side) for side in (sides.train, sides.validation))
    return Sides(train, validation, sides.sha256)


def load(recipe: Recipe, settings: Settings, folder: Path) -> TrainingData:
    """Find, split and read a data set; `DataError` if it lacks the images and labels that the recipe needs."""
    sides = load_sides(recipe, settings, folder)
    train, validation = images(sides.train, recipe), images(sides.validation, recipe)
    mean, std = pixels.statistics(train.pixels, recipe.input.channels)
    spec = recipe.input.model_copy(update={"mean": mean, "std": std})
    return TrainingData(train, validation, spec, sides)


def load_all(recipe: Recipe, settings: Settings, folder: Path) -> tuple[Images, str, tuple[Example, ...]]:
    """Read a data set that was not used for training, without splitting it; return also the SHA-256 of its list."""
    examples = _find(recipe, settings, folder)
    return images(examples, recipe), split.digest(examples, [True] * len(examples)), tuple(examples)


def _find(recipe: Recipe, settings: Settings, folder: Path) -> Sequence[Example]:
    examples = datasets.find(settings.data, folder)
    labels = {example.label for example in examples}
    if labels != set(recipe.labels):
        raise DataError(f"{folder}: has the labels {sorted(labels)}; the recipe requires {list(recipe.labels)}.")
    return examples


def images(examples: Sequence[Example], recipe: Recipe) -> Images:
    """Read examples into memory, with the indices of their labels in the recipe."""
    has_masks = recipe.task == "segmentation"
    return Images(
        masks=pixels.masks(examples, recipe.input) if has_masks else None,
        pixels=pixels.read(examples, recipe.input),
        targets=torch.tensor([recipe.labels.index(example.label) for example in examples]),
        groups=tuple(example.group for example in examples),
    )
