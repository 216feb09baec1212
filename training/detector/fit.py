"""Fits the detector of a model: `radserve fit-detector`, and the last step of `radserve train`."""

import hashlib
import logging
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file
from torch import nn

from handlers import recipe as recipes
from handlers.domain.detector import PART, Metric
from handlers.recipe import Detector as Section
from handlers.recipe import Recipe
from training import datasets, networks, recipe_files, weights
from training.cards import dataset_notes
from training.datasets import Example, training_data
from training.datasets.training_data import Sides
from training.detector import calibration, gaussian, pose
from training.detector.calibration import Distances
from training.detector.copies import copy
from training.detector.observations import Network, Observations, observe
from training.errors import RunError
from training.networks import moments
from training.settings import DetectorSettings, Settings

FILE: Final = "detector.safetensors"
_METHOD: Final = (
    "Mahalanobis distances to the labels and distances from the principal subspace of {parts}, and odds of a pose; "
    "the largest, each relative to its {each:.0%} quantile of held-out images."
)
_FITTED: Final = (
    "{train} training {unit} and {copies} re-encoded copies of each; limits on {validation} validation {unit} of "
    "{groups} {group} and a copy of each."
)
Tensors = dict[str, torch.Tensor]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Source:
    """A model and the images to fit its detector to."""

    recipe: Recipe
    config: Settings
    sides: Sides
    others: tuple[Example, ...]  # further training images


def fit_detector(folder: Path, config: Settings, data: Path, out: Path, also: Path | None = None) -> Recipe:
    """Fit a detector to the training images of the model in a folder; write it and the recipe to `out`.

    `also` are more images of the same kind, like the originals of scaled copies; those of patients on the validation
    side are not used.
    """
    if config.detector is None:
        raise RunError(f"{folder}: its training.yaml has no key 'detector', so this model has no detector.")
    recipe = recipes.load(folder / "archive.yaml")
    sides = training_data.load_sides(recipe, config, data)
    layers = config.detector.layers
    network = load_network(recipe, folder, layers) if layers else None
    out.mkdir(parents=True, exist_ok=True)
    source = _Source(recipe, config, sides, _others(config, sides, also))
    section = _fit(source, config.detector, network, out / FILE)
    fitted = recipe.model_copy(update={"detector": section})
    recipe_files.write(fitted, out / "archive.yaml", recipe_files.HEADER.format(name=recipe.name))
    return recipes.load(out / "archive.yaml")


def install(out: Path, folder: Path) -> None:
    """Copy a fitted detector and its recipe into the model's folder."""
    for name in (FILE, "archive.yaml"):
        shutil.copyfile(out / name, folder / name)


def load_network(recipe: Recipe, folder: Path, layers: Sequence[str]) -> nn.Module:
    """Load a model's network, with the moments of these layers, if any."""
    path = folder / recipe.weights.file
    if not path.is_file():
        raise RunError(f"{path}: not found. Train the model first: radserve train {recipe.name} --data DIR --install.")
    network = weights.load(networks.create(recipe.network, recipe.outputs), path)
    return moments.add(network, layers) if layers else network


def _others(config: Settings, sides: Sides, folder: Path | None) -> tuple[Example, ...]:
    """List further images without those of patients on the validation side."""
    held_out = {example.group for example in sides.validation}
    examples = () if folder is None else datasets.find(config.data, folder)
    return tuple(example for example in examples if example.group not in held_out)


def _fit(source: _Source, options: DetectorSettings, network: Network | None, path: Path) -> Section:
    """Fit to the training side, choose limits on the validation side, write the file, and return its section."""
    recipe, config, sides = source.recipe, source.config, source.sides
    generator = random.Random(config.seed)  # noqa: S311 - not for security
    train = [*generator.sample(sides.train, min(options.images, len(sides.train))), *source.others]
    _log.info("reading %d training images and %d copies of each", len(train), options.copies)
    seen = observe(network, recipe.input, with_copies(train, options.copies, generator))
    held_out = observe(network, recipe.input, with_copies(sides.validation, 1, generator))
    labels = torch.tensor([recipe.labels.index(example.label) for example in train])
    tensors = _parts(seen, labels.repeat_interleave(1 + options.copies), len(recipe.labels), options)
    _log.info("training the recognition of poses")
    groups = [example.group for example in sides.validation for _ in range(2)]
    recognition = pose.train(seen.thumbnails[:: 1 + options.copies], config.augmentation, config.seed)
    recognition["accepted"] = pose.accepted(held_out.thumbnails, groups, recognition)
    tensors |= {f"pose.{name}": value for name, value in recognition.items()}
    distances = measure(Metric.of(tensors, tuple(options.components)), held_out)
    limits = calibration.calibrate(distances, groups)
    tensors |= {f"limit.{name}": torch.tensor(value) for name, value in limits.each.items()}
    tensors["percentiles"] = torch.from_numpy(limits.percentiles).float()
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    notes = dataset_notes.for_dataset(config.data)
    return Section(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        method=_METHOD.format(parts=" and ".join(options.components), each=calibration.EACH),
        layers=options.layers,
        weights_sha256=recipe.weights.sha256 if options.layers else None,
        parts=tuple(options.components),
        marked=round(limits.marked, 4),
        refused=round(limits.refused, 4),
        fitted=_FITTED.format(
            train=len(train),
            unit=notes.unit,
            copies=options.copies,
            validation=len(sides.validation),
            groups=len(set(groups)),
            group=notes.group,
        ),
        split=sides.sha256,
    )


def with_copies(examples: Iterable[Example], copies: int, generator: random.Random) -> Iterator[bytes]:
    """Read every image, followed by re-encoded copies of it."""
    for example in examples:
        data = example.read()
        yield data
        for _ in range(copies):
            yield copy(data, generator)


def measure(metric: Metric, images: Observations) -> Distances:
    """Return the distances of images."""
    values = metric(images.parts, images.thumbnails)
    return {name: value.double().numpy() for name, value in values.items()}


def _parts(seen: Observations, targets: torch.Tensor, labels: int, options: DetectorSettings) -> Tensors:
    tensors: Tensors = {}
    for name, components in options.components.items():
        part = gaussian.fit(seen.parts[name], targets, labels, components)
        tensors |= {f"{name}.{key}": getattr(part, key) for key in PART}
        tensors[f"{name}.basis"] = part.basis.half()  # exact, see `gaussian.fit`
    return tensors
