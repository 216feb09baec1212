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
from handlers.recipe import Detector as Section
from handlers.recipe import Recipe
from training import datasets, recipe_files, weights
from training.cards import dataset_notes
from training.datasets import Example, training_data
from training.datasets.training_data import Sides
from training.detector import calibration
from training.detector.calibration import FOLDS, Shares
from training.detector.copies import copy
from training.detector.cross_fit import Sample, Shape, cross_fitted, fit_to, measured
from training.detector.observations import Network, observe
from training.errors import RunError
from training.networks import moments
from training.settings import DetectorSettings, Settings

FILE: Final = "detector.safetensors"
_METHOD: Final = (
    "Mahalanobis distances to the labels and distances from the principal subspace of {parts}, and odds of a pose; "
    "the largest, each relative to its {each:.0%} quantile of held-out images."
)
_FITTED: Final = "{train} training {unit} and {copies} re-encoded copies of each; limits on"
_CROSS_FITTED: Final = "these, of {groups} {group}, in {parts} parts, each by a fit to the other parts"
_HELD_OUT: Final = "{validation} validation {unit} of {groups} {group} and a copy of each"
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
    """Load a model's network, with the moments of these layers, if any; `RunError` for other weights."""
    network = weights.of_model(recipe, folder)
    return moments.add(network, layers) if layers else network


def _others(config: Settings, sides: Sides, folder: Path | None) -> tuple[Example, ...]:
    """List further images without those of patients on the validation side."""
    held_out = {example.group for example in sides.validation}
    examples = () if folder is None else datasets.find(config.data, folder)
    return tuple(example for example in examples if example.group not in held_out)


def _fit(source: _Source, options: DetectorSettings, network: Network | None, path: Path) -> Section:
    """Fit to the training side, choose limits on held-out images, write the file, and return its section."""
    recipe, config, sides = source.recipe, source.config, source.sides
    generator = random.Random(config.seed)  # noqa: S311 - not for security
    train = [*generator.sample(sides.train, min(options.images, len(sides.train))), *source.others]
    _log.info("reading %d training images and %d copies of each", len(train), options.copies)
    each = 1 + options.copies
    seen = Sample(
        observe(network, recipe.input, with_copies(train, options.copies, generator), options.components),
        torch.tensor([recipe.labels.index(example.label) for example in train]).repeat_interleave(each),
        tuple(example.group for example in train for _ in range(each)),
    )
    shape = Shape(dict(options.components.items()), config.augmentation, config.seed, len(recipe.labels), each)
    _log.info("fitting to %d images", len(seen.groups))
    fitted = fit_to(seen, shape)
    if network is None:
        held_out = cross_fitted(seen, shape)
        sample = _CROSS_FITTED
    else:
        examples = sides.validation
        observations = observe(network, recipe.input, with_copies(examples, 1, generator), options.components)
        groups = [example.group for example in examples for _ in range(2)]
        held_out, sample = measured([(fitted, observations)], groups, tuple(options.components)), _HELD_OUT
    limits = calibration.calibrate(held_out.distances, held_out.groups, Shares(options.marked, options.refused))
    tensors = fitted | {"pose.accepted": held_out.accepted, "percentiles": torch.from_numpy(limits.percentiles).float()}
    tensors |= {f"limit.{name}": torch.tensor(value) for name, value in limits.each.items()}
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
        fitted=f"{_FITTED} {sample}.".format(
            train=len(train),
            copies=options.copies,
            validation=len(sides.validation),
            groups=len(set(held_out.groups)),
            parts=min(FOLDS, len(set(held_out.groups))),
            unit=notes.unit,
            group=notes.group,
        ),
        limits_on="training" if network is None else "validation",
        split=sides.sha256,
    )


def with_copies(examples: Iterable[Example], copies: int, generator: random.Random) -> Iterator[bytes]:
    """Read every image, followed by re-encoded copies of it."""
    for example in examples:
        data = example.read()
        yield data
        for _ in range(copies):
            yield copy(data, generator)
