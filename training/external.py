"""Measures a model on images of another source: `radserve evaluate --external`.

The figures are kept apart from those of the validation part. Images that were used in training are rejected.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import datasets, evaluators, networks, settings, weights
from training.batches import Images
from training.cards.files import write_report
from training.datasets import external, split, training_data
from training.datasets.example import Example, sha256
from training.datasets.external import Labelled
from training.errors import DataError, RunError
from training.evaluators import outputs
from training.evaluators.evaluator import Evaluator, Logits
from training.metrics import bootstrap, report
from training.metrics.report import Report
from training.settings import Settings

SMALLEST: Final = 20
"""Least number of groups of a subgroup with metrics: the 95% interval of a proportion of 0.5 is then 0.44 wide."""
_FEWEST: Final = 10
"""Least number of groups with an interval: a bootstrap over fewer is too narrow, over one group it has no width."""
_EXAMPLES: Final = 5


@dataclass(frozen=True)
class Source:
    """Images of another source."""

    name: str
    folder: Path


def evaluate(folder: Path, training: Path, source: Source, out: Path, command: str) -> dict[str, Any]:
    """Measure a model on external images; write its metrics with these in a section of their own, and the card.

    `training` contains the data of the training, which is needed to reject images that were used there.

    Raises RunError if the model has no metrics of these weights, if `training` has another split, or if an external
    image was used in training, and DataError if the source is invalid.
    """
    recipe, config = recipes.load(folder / "archive.yaml"), settings.load(folder / "training.yaml")
    previous = _previous(folder, recipe)
    labelled = _find(recipe, source.folder)
    _reject_used(labelled.examples, _used(config, training, previous))
    images = training_data.images(labelled.examples, recipe)
    network = weights.load(networks.for_recipe(recipe), folder / recipe.weights.file)
    logits = outputs.logits(network, images, recipe.input, len(recipe.labels))
    section = _section(source.name, recipe, images, logits, labelled, config.seed) | {"command": command}
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    others = [part for part in metrics.get("external", []) if part["name"] != source.name]
    metrics["external"] = [*others, section]
    write_report(recipe, metrics, out)
    return section


def predictor(recipe: Recipe) -> str:
    """Return the SHA-256 of what turns an image into a result besides the weights."""
    parts = recipe.model_dump(mode="json", include={"labels", "input", "activation", "calibration", "decision"})
    numbers = _without_texts(parts)
    return sha256(json.dumps(numbers, sort_keys=True).encode())


def _without_texts(parts: dict[str, Any]) -> dict[str, Any]:
    """Omit how temperature and threshold were found, in words."""
    texts = {"fitted", "chosen"}
    return {
        key: {inner: item for inner, item in value.items() if inner not in texts} if isinstance(value, dict) else value
        for key, value in parts.items()
    }


def _previous(folder: Path, recipe: Recipe) -> Report:
    path, file = folder / "metrics.json", folder / recipe.weights.file
    if not path.is_file() or not file.is_file():
        raise RunError(f"{folder}: has no weights or no metrics.json. Train the model, or evaluate it with --install.")
    previous, actual = report.load(path), sha256(file.read_bytes())
    if not previous.model.weights_sha256 == recipe.weights.sha256 == actual:
        raise RunError(f"{folder}: recipe, metrics.json and {file.name} are of different weights. Install them again.")
    return previous


def _find(recipe: Recipe, folder: Path) -> Labelled:
    if recipe.task == "classification":
        return external.find(folder, recipe.labels)
    negative, positive = recipe.labels
    return external.find_masks(folder, (negative, positive))


def _used(config: Settings, folder: Path, previous: Report) -> frozenset[str]:
    """Return the SHA-256 of every image of the training and validation parts."""
    examples = datasets.find(config.data, folder)
    actual = split.by_group(examples, config.validation, config.seed).sha256
    if actual != previous.split.sha256:
        raise RunError(
            f"{folder}: is not the data of the training (split {actual[:12]}, not {previous.split.sha256[:12]}), so "
            "images that were used in training would not be noticed. Give the training data with --data."
        )
    return frozenset(sha256(example.read()) for example in examples)


def _reject_used(examples: Sequence[Example], used: frozenset[str]) -> None:
    names = [example.name for example in examples if sha256(example.read()) in used]
    if names:
        raise DataError(
            f"{len(names)} of {len(examples)} external images were used in training or validation, for example "
            f"{', '.join(names[:_EXAMPLES])}. Remove them: figures on them would be too good."
        )


def _section(
    name: str, recipe: Recipe, images: Images, logits: Logits, labelled: Labelled, seed: int
) -> dict[str, Any]:
    evaluator = evaluators.for_recipe(recipe)
    evaluation = evaluator.measure(recipe, logits, images, seed)
    return {
        "name": name,
        "sha256": split.digest(labelled.examples, [True] * len(images)),
        "images": images.counts(recipe.labels),
        "interval": bootstrap.describe("groups"),
        "predictor": predictor(recipe),
        "metrics": _with_intervals(evaluation.metrics, images),
        "confusion": evaluation.confusion,
        "subgroups": {
            attribute: _subgroups(values, evaluator, recipe, images, logits, seed)
            for attribute, values in labelled.subgroups.items()
        },
    }


def _with_intervals(metrics: Mapping[str, Any], images: Images) -> Mapping[str, Any]:
    """Return the metrics, without their intervals if there are too few groups."""
    if len(set(images.groups)) >= _FEWEST:
        return metrics
    return {name: metric | {"ci95": None} for name, metric in metrics.items()}


def _subgroups(
    values: Sequence[str], evaluator: Evaluator, recipe: Recipe, images: Images, logits: Logits, seed: int
) -> Mapping[str, Any]:
    result = {}
    for value in sorted(set(values)):
        indices = np.flatnonzero(np.asarray(values) == value)
        part = images.take(indices)
        enough = len(set(part.groups)) >= SMALLEST
        metrics = evaluator.measure(recipe, logits[indices], part, seed).metrics if enough else None
        result[value] = {"images": len(part), "metrics": metrics}
    return result
