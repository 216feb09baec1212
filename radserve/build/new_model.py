"""Folders of new models: recipe, TorchServe's settings, a synthetic sample, and weights, if there is a checkpoint."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image as Pillow

from handlers import recipe as recipes
from handlers.recipe import Input, Recipe
from handlers.suitability import MIN_SIDE
from radserve.build import checkpoint, import_weights, trained_network
from radserve.build.import_weights import Checkpoint
from radserve.build.source import new_folder
from radserve.errors import BuildError
from training import recipe_files
from training.cards import dataset_notes

_COMMENT: Final = "# Describes the model, its input and its output. Written by `{command}`.\n"
_TORCHSERVE: Final = """\
# TorchServe's settings of this model. The number of workers is set by `radserve serve`.
batchSize: 4            # largest batch
maxBatchDelay: 1        # ms; a single request waits this long; under load, batches form without waiting
responseTimeout: 60     # s; without it TorchServe forces 120 whatever the server says
startupTimeout: 120     # s; a worker on a busy machine needs most of it for imports
"""
_TRAINING: Final = "# Settings of `radserve train {name}`; override a key with `--set key=value`.\ndata: {data}\n"
_UNKNOWN: Final = "Unknown."
_BLOBS: Final = 6  # cells on a side of the noise from which a sample is drawn
_BATCH: Final = 2  # images of the trial run of a network


@dataclass(frozen=True)
class Draft:
    """Description of a new model. A value that is None or absent is unknown, and becomes a part of the warning."""

    name: str
    network: str
    labels: tuple[str, ...]  # in the order of the network's outputs
    input: Mapping[str, Any]  # as in a recipe; mean and std may be absent
    task: str = "classification"
    network_args: Mapping[str, Any] = field(default_factory=dict)
    version: str = "1.0.0"
    title: str | None = None
    positive: str | None = None
    threshold: float = 0.5
    chosen: str = "Not chosen: a default."  # origin of the threshold
    activation: str | None = None  # default: sigmoid for a segmentation, softmax for a classification
    scope: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str | None = None
    licence: str | None = None
    data: str | None = None  # data set of `radserve train`
    warnings: tuple[str, ...] = ()  # further sentences


def create(archives: Path, draft: Draft, command: str, weights: Checkpoint | None = None) -> Recipe:
    """Write the folder of a new model, with all of its files or not at all; return its recipe.

    Raises BuildError if the name is invalid or the folder exists, RecipeError if the description is invalid,
    NetworkError if the network does not exist, BuildError if it does not fit the description, and WeightsImportError if
    the weights do not fit the network.
    """
    folder = new_folder(archives, draft.name)
    recipe = _recipe(draft)
    recipe = recipe if _explains(recipe) else _without_explanation(recipe)
    archives.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=archives) as scratch:
        staged = Path(scratch) / recipe.name
        staged.mkdir()
        (staged / "torchserve.yaml").write_text(_TORCHSERVE, encoding="utf-8")
        if draft.data is not None:
            dataset_notes.for_dataset(draft.data)
            text = _TRAINING.format(name=recipe.name, data=draft.data)
            (staged / "training.yaml").write_text(text, encoding="utf-8")
        sample(recipe.input).save(staged / recipe.sample, optimize=True)
        if weights is not None:
            recipe = _import(recipe, weights, staged)
        recipe_files.write(recipe, staged / "archive.yaml", _COMMENT.format(command=" ".join(command.split())))
        staged.rename(folder)
    return recipe


def sample(spec: Input) -> Pillow.Image:
    """Draw a synthetic sample, smooth noise in the shape of a network's input, which shows no patient."""
    random = np.random.default_rng(0)
    height, width = spec.frame or (spec.height, spec.width)
    size = (max(width, MIN_SIDE), max(height, MIN_SIDE))
    bands = [
        Pillow.fromarray(random.integers(0, 256, (_BLOBS, _BLOBS), dtype=np.uint8)).resize(
            size, Pillow.Resampling.BICUBIC
        )
        for _ in range(1 if spec.color == "gray" else 3)
    ]
    return bands[0] if len(bands) == 1 else Pillow.merge("RGB", bands)


def _recipe(draft: Draft) -> Recipe:
    segments = draft.task == "segmentation"
    positive = draft.positive or (draft.labels[-1] if segments and draft.labels else None)
    channels = draft.input["channels"]
    values: dict[str, Any] = {
        "name": draft.name,
        "version": draft.version,
        "task": draft.task,
        "title": draft.title or f"{draft.name}: {' or '.join(draft.labels)}",
        "network": draft.network,
        "network_args": dict(draft.network_args),
        "labels": list(draft.labels),
        "input": {"mean": [0.0] * channels, "std": [1.0] * channels} | dict(draft.input),
        "scope": dict(draft.scope),
        "activation": draft.activation or ("sigmoid" if segments else "softmax"),
        "decision": {"positive": positive, "threshold": draft.threshold, "chosen": draft.chosen},
        "calibration": {"temperature": 1.0, "fitted": "Not fitted."},
        "weights": {"file": "weights.safetensors", "sha256": None},
        "sample": "sample.png",
        "trained_on": draft.trained_on or _UNKNOWN,
        "licence": draft.licence or _UNKNOWN,
        "warning": _warning(draft),
    }
    optional = {"network_args": draft.network_args, "scope": draft.scope, "decision": positive}
    empty = {key for key, value in optional.items() if not value} | {key for key in ("warning",) if not values[key]}
    return recipes.parse({key: value for key, value in values.items() if key not in empty}, source=draft.name)


def _warning(draft: Draft) -> str | None:
    """Return a sentence that lists what is unknown; it is a part of every prediction until the recipe is complete."""
    known = {
        "modality": "modality" in draft.scope,
        "body part": "body_part" in draft.scope,
        "mean and standard deviation of the input": "mean" in draft.input and "std" in draft.input,
        "training data": draft.trained_on,
        "licence": draft.licence,
    }
    unknown = [name for name, value in known.items() if not value]
    sentences = [f"Incomplete recipe; unknown: {', '.join(unknown)}."] if unknown else []
    return " ".join([*sentences, *draft.warnings]) or None


def _explains(recipe: Recipe) -> bool:
    """Whether the network returns features to explain predictions with; `BuildError` if it does not fit the recipe."""
    spec = recipe.input
    expected = (_BATCH, recipe.outputs) + ((spec.height, spec.width) if recipe.task == "segmentation" else ())
    network = trained_network.create(recipe).eval()
    try:
        with torch.inference_mode():
            outputs = network(torch.zeros(_BATCH, spec.channels, spec.height, spec.width))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise BuildError(
            f"{recipe.network}: fails for inputs of {spec.channels} x {spec.height} x {spec.width} (channels, "
            f"height, width): {error}"
        ) from error
    actual = tuple(outputs["logits"].shape)
    if actual != expected:
        raise BuildError(
            f"{recipe.network}: returns {actual} for {_BATCH} images, but {len(recipe.labels)} labels with "
            f"{recipe.activation} need {expected}. Change the labels, the task or the network's arguments."
        )
    return "features" in outputs and outputs["features"].dim() == 4


def _without_explanation(recipe: Recipe) -> Recipe:
    if recipe.task == "segmentation":
        return recipe
    values = recipe.model_dump(mode="json", exclude_unset=True) | {"explanation": {"method": "none"}}
    return recipes.parse(values, source=recipe.name)


def _import(recipe: Recipe, weights: Checkpoint, folder: Path) -> Recipe:
    digest = checkpoint.sha256(weights.path)
    imported = import_weights.convert(recipe, weights, folder / recipe.weights.file)
    card = import_weights.card(imported, weights.path.name, digest)
    (folder / "CARD.md").write_text(card, encoding="utf-8")
    if imported.trained_on != _UNKNOWN:
        return imported
    origin = f"Unknown: imported from {weights.path.name}, sha256 {digest}."
    return imported.model_copy(update={"trained_on": origin})
