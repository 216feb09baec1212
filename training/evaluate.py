"""Measures a model's weights on a data set: `radserve evaluate`."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import evaluators, networks, settings, weights
from training.batches import Images
from training.cards import dataset_notes
from training.cards.card import card
from training.datasets import training_data
from training.errors import RunError
from training.evaluators import outputs, stress
from training.evaluators.evaluator import Evaluation
from training.metrics import binary, bootstrap, report
from training.metrics.report import Report
from training.settings import Settings

Part = Literal["validation", "all"]


@dataclass(frozen=True)
class MeasuredData:
    """Images of a measurement, and the SHA-256 of their split."""

    train: Images | None  # None if it is unknown
    measured: Images
    sha256: str


@dataclass(frozen=True)
class Options:
    """Options of an evaluation."""

    part: Part = "validation"  # not used for training; `all` is for data sets that were not used at all
    weights: Path | None = None  # to measure instead of those of the model; their SHA-256 is not checked
    overrides: Sequence[str] = ()  # `key=value` that replace settings of `training.yaml`
    command: str = "called from Python"  # for `metrics.json`


def evaluate(folder: Path, data: Path, out: Path, options: Options) -> dict[str, Any]:
    """Measure weights and write metrics, card and plots; `RunError` if the split differs from that of the training."""
    recipe = recipes.load(folder / "archive.yaml")
    config = settings.load(folder / "training.yaml", options.overrides)
    recipe, network = _network(recipe, folder, options)
    images = _images(recipe, config, data, options.part)
    previous = _previous_report(folder, recipe)
    if previous is not None and images.train is not None:
        _check_split(images, previous, data)
    logits = outputs.logits(network, images.measured, recipe.input, len(recipe.labels))
    evaluation = evaluators.for_recipe(recipe).measure(recipe, logits, images.measured, config.seed)
    epoch = None if previous is None else previous.epoch
    metrics = create_report(recipe, config, images, evaluation, options.command, epoch, options.part)
    if previous is not None and previous.external:
        metrics["external"] = [part.model_dump(mode="json") for part in previous.external]
    if not config.demonstration:
        metrics |= stress_metrics(recipe, network, images.measured)
    write(metrics, recipe, evaluation, out)
    return metrics


def create_report(
    recipe: Recipe,
    config: Settings,
    images: MeasuredData,
    evaluation: Evaluation,
    command: str,
    epoch: int | None,
    part: Part = "validation",
) -> dict[str, Any]:
    """Return the content of `metrics.json`; see `training.metrics.report.Report`."""
    return {
        "model": {"name": recipe.name, "version": recipe.version, "weights_sha256": recipe.weights.sha256},
        "task": recipe.task,
        "data": config.data,
        "demonstration": config.demonstration,
        "command": command,
        "seed": config.seed,
        "epoch": epoch,
        "temperature": recipe.calibration.temperature,
        "threshold": None if recipe.decision is None else recipe.decision.threshold,
        "part": part,
        "split": {
            "sha256": images.sha256,
            "train": None if images.train is None else _counts(images.train, recipe),
            "validation": _counts(images.measured, recipe),
        },
        "interval": bootstrap.describe(dataset_notes.for_dataset(config.data).group),
        "validation": evaluation.metrics,
        "confusion": evaluation.confusion,
    }


def stress_metrics(recipe: Recipe, network: nn.Module, images: Images) -> dict[str, Any]:
    """Measure under fixed image changes; only for gray images with two labels, for which they are designed."""
    if recipe.decision is None or recipe.task != "classification":
        return {}
    index = recipe.labels.index(recipe.decision.positive)
    positive = (images.targets == index).numpy()
    metrics = {}
    for name, changed in stress.conditions(images).items():
        logits = outputs.logits(network, changed, recipe.input, len(recipe.labels))
        probability = outputs.probabilities(logits, recipe.calibration.temperature)[:, index]
        values = binary.compute(positive, probability, recipe.decision.threshold)
        metrics[name] = {key: round(values[key], 4) for key in ("auroc", "sensitivity", "specificity")}
    return {"stress": metrics}


def write(metrics: dict[str, Any], recipe: Recipe, evaluation: Evaluation, out: Path) -> None:
    """Write metrics, card and plots to a result folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = card(recipe, metrics, metrics["data"])
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (out / "CARD.md").write_text(text, encoding="utf-8")
    (out / "plots").mkdir(exist_ok=True)
    evaluation.plot(out / "plots")


def install_report(out: Path, folder: Path) -> None:
    """Copy metrics and card to the model's folder; `RunError` unless they are of its weights and validation side."""
    recipe = recipes.load(folder / "archive.yaml")
    measured = report.load(out / "metrics.json")
    if measured.part != "validation" or measured.model.weights_sha256 != recipe.weights.sha256:
        raise RunError(f"{out}: measured other weights, or not the validation side; cannot be installed in {folder}.")
    for name in ("metrics.json", "CARD.md"):
        shutil.copyfile(out / name, folder / name)


def _network(recipe: Recipe, folder: Path, options: Options) -> tuple[Recipe, nn.Module]:
    file = options.weights or folder / recipe.weights.file
    if not file.is_file():
        source = recipe.weights.source or f"radserve train {recipe.name} --data DIR --install"
        raise RunError(f"{file}: not found. Create it with '{source}', or give other weights.")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    if options.weights is None and sha256 != recipe.weights.sha256:
        raise RunError(f"{file}: has sha256 {sha256}, the recipe's key 'weights.sha256' is {recipe.weights.sha256}.")
    measured = recipe.weights.model_copy(update={"sha256": sha256})
    network = weights.load(networks.for_recipe(recipe), file)
    return recipe.model_copy(update={"weights": measured}), network


def _images(recipe: Recipe, config: Settings, data: Path, part: Part) -> MeasuredData:
    if part == "all":
        images, sha256 = training_data.load_all(recipe, config, data)
        return MeasuredData(None, images, sha256)
    loaded = training_data.load(recipe, config, data)
    return MeasuredData(loaded.train, loaded.validation, loaded.split)


def _previous_report(folder: Path, recipe: Recipe) -> Report | None:
    """Read the model's `metrics.json`, if it describes these weights."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    previous = report.load(path)
    return previous if previous.model.weights_sha256 == recipe.weights.sha256 else None


def _check_split(images: MeasuredData, previous: Report, data: Path) -> None:
    """Reject a validation side that may contain training images of these weights."""
    if images.sha256 != previous.split.sha256:
        raise RunError(
            f"{data}: seed and share give another split ({images.sha256[:12]}) than that of the training "
            f"({previous.split.sha256[:12]}), so training images may be on the validation side. Use the data and "
            "settings of the training, or measure all of another data set."
        )


def _counts(images: Images, recipe: Recipe) -> dict[str, Any]:
    labels = Counter(images.targets.tolist())
    return {
        "images": len(images),
        "groups": len(set(images.groups)),
        "labels": {label: labels[index] for index, label in enumerate(recipe.labels)},
    }
