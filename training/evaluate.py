"""Measures a model's weights on a data set: `radserve evaluate`."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import evaluators, networks, recalibration, reference, second_pass, settings, uncertainty, weights
from training.batches import Images
from training.cards import dataset_notes
from training.cards.files import write_report
from training.datasets import Example, training_data
from training.detector.refusals import measure_refusals
from training.errors import RunError
from training.evaluators import outputs, shortcuts, stress
from training.evaluators.evaluator import Evaluation, Logits
from training.external import predictor
from training.metrics import binary, bootstrap, report
from training.metrics.report import Report
from training.second_pass import Passes
from training.settings import Settings

_log = logging.getLogger(__name__)
Part = Literal["validation", "all"]


@dataclass(frozen=True)
class MeasuredData:
    """Images of a measurement, and the SHA-256 of their split."""

    train: Images | None  # None if it is unknown
    measured: Images
    sha256: str
    examples: tuple[Example, ...]  # files of the measured images


@dataclass(frozen=True)
class Options:
    """Options of an evaluation."""

    part: Part = "validation"  # not used for training; `all` is for data sets that were not used at all
    weights: Path | None = None  # to measure instead of those of the model; their SHA-256 is not checked
    overrides: Sequence[str] = ()  # `key=value` that replace settings of `training.yaml`
    command: str = "called from Python"  # for `metrics.json`
    ood: bool = False  # also measure what the detector refuses
    others: Mapping[str, Path] = field(default_factory=dict)  # folders of other images for that, by name


def evaluate(folder: Path, data: Path, out: Path, options: Options) -> dict[str, Any]:
    """Measure weights and write metrics, card and plots; `RunError` if the split differs from that of the training."""
    recipe = recipes.load(folder / "archive.yaml")
    config = settings.load(folder / "training.yaml", options.overrides)
    recipe, network = load_network(recipe, folder, options)
    images = load_images(recipe, config, data, options.part)
    previous = previous_report(folder, recipe)
    if previous is not None and images.train is not None:
        check_split(images, previous, data)
    logits = outputs.logits(network, images.measured, recipe.input, len(recipe.labels))
    evaluation = evaluators.for_recipe(recipe).measure(recipe, logits, images.measured, config.seed)
    epoch = None if previous is None else previous.epoch
    metrics = create_report(recipe, config, images, evaluation, options.command, epoch, options.part)
    if previous is not None:
        metrics["training"] = list(previous.training)
    if external := external_figures(previous, recipe):
        metrics["external"] = external
    if not config.demonstration:
        metrics |= robustness(recipe, network, images.measured, config)
    passes = None if recipe.second_pass is None else second_pass.collect(network, recipe, images.examples)
    kept = {} if options.part == "validation" else {"second_pass": None}  # other images do not set the recipe's limit
    metrics |= certainty_metrics(recipe, config.model_copy(update=kept), logits, images.measured, passes)
    metrics |= _refusals(folder, recipe, config, data, previous, options)
    if options.part == "validation":
        metrics["reference"] = reference.of_predictions(recipe, logits)
        if options.weights is None:  # the detector knows the outputs of the model's own weights
            metrics["reference"] = reference.with_percentiles(metrics["reference"], folder, recipe, config, data)
    write(metrics, recipe, evaluation, out)
    return metrics


def update_reference(folder: Path, data: Path, out: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measure only the reference of monitoring; write metrics and card with the other figures unchanged.

    Raises `RunError` if the folder has no metrics of its weights, or if the split differs from that of the training.
    """
    recipe = recipes.load(folder / "archive.yaml")
    config = settings.load(folder / "training.yaml", overrides)
    recipe, network = load_network(recipe, folder, Options())
    previous = previous_report(folder, recipe)
    if previous is None:
        raise RunError(f"{folder}: has no metrics.json of its weights. Evaluate the model without --reference.")
    images = load_images(recipe, config, data, "validation")
    check_split(images, previous, data)
    logits = outputs.logits(network, images.measured, recipe.input, len(recipe.labels))
    measured = reference.with_percentiles(reference.of_predictions(recipe, logits), folder, recipe, config, data)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes()) | {"reference": measured}
    write_report(recipe, metrics, out)
    return metrics


def external_figures(previous: Report | None, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the earlier figures on images of other sources, unless input, calibration or decision changed since."""
    parts = () if previous is None else previous.external
    outdated = [part.name for part in parts if part.predictor != predictor(recipe)]
    if outdated:
        _log.warning("external figures of another threshold or input are removed: %s", ", ".join(outdated))
    return [part.model_dump(mode="json") for part in parts if part.name not in outdated]


def _refusals(
    folder: Path, recipe: Recipe, config: Settings, data: Path, previous: Report | None, options: Options
) -> dict[str, Any]:
    """Measure what the detector refuses, or keep the earlier measurement of the same detector."""
    if options.ood:
        refusals = measure_refusals(folder, recipe, config, data, options.others, options.command)
    elif (
        previous is None
        or previous.refusals is None
        or recipe.detector is None
        or previous.refusals.detector_sha256 != recipe.detector.sha256
    ):
        return {}
    else:
        refusals = previous.refusals
    return {"refusals": refusals.model_dump(mode="json")}


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
            "train": None if images.train is None else images.train.counts(recipe.labels),
            "validation": images.measured.counts(recipe.labels),
        },
        "interval": bootstrap.describe(dataset_notes.for_dataset(config.data).group),
        "validation": evaluation.metrics,
        "confusion": evaluation.confusion,
    }


def robustness(recipe: Recipe, network: nn.Module, images: Images, config: Settings) -> dict[str, Any]:
    """Measure under fixed image changes; only for gray images with two labels, for which they are designed."""
    if recipe.decision is None or recipe.task != "classification":
        return {}
    known = config.data == shortcuts.DATA
    measured = {"shortcuts": shortcuts.measure(recipe, network, images, config.seed)} if known else {}
    return _stress(recipe, network, images) | measured


def _stress(recipe: Recipe, network: nn.Module, images: Images) -> dict[str, Any]:
    assert recipe.decision is not None
    index = recipe.labels.index(recipe.decision.positive)
    positive = (images.targets == index).numpy()
    metrics = {}
    for name, changed in stress.conditions(images).items():
        logits = outputs.logits(network, changed, recipe.input, len(recipe.labels))
        probability = outputs.calibrated(logits, recipe.calibration)[:, index]
        values = binary.compute(positive, probability, recipe.decision.threshold)
        metrics[name] = {key: round(values[key], 4) for key in ("auroc", "sensitivity", "specificity")}
    return {"stress": metrics}


def certainty_metrics(
    recipe: Recipe, config: Settings, logits: Logits, images: Images, passes: Passes | None
) -> dict[str, Any]:
    """Measure the prediction sets, cross-fitted, so that no image is measured with values that it was used to fit."""
    if recipe.uncertainty is None:
        return {}
    level = recipe.uncertainty.level
    if not recalibration.is_measurable(images, level):
        needed = recalibration.min_groups(level)
        _log.warning("certainty is not measured: every label needs %d patients or groups", needed)
        return {}
    config = config.model_copy(update={"level": level})
    results = recalibration.cross_fitted(recipe, config, logits, images, passes)
    intervals = uncertainty.measure(recipe, results, images, config.seed)
    if passes is not None:
        before = recalibration.cross_fitted(recipe, config, logits, images)
        intervals |= second_pass.measure(recipe, before, results, images, config.seed)
    return {"certainty": {name: interval.to_json() for name, interval in intervals.items()}}


def write(metrics: dict[str, Any], recipe: Recipe, evaluation: Evaluation, out: Path) -> None:
    """Write metrics, card and plots to a result folder."""
    write_report(recipe, metrics, out)
    (out / "plots").mkdir(exist_ok=True)
    evaluation.plot(out / "plots")


def refresh(folder: Path, config: Settings, data: Path) -> None:
    """Update metrics and card of a folder after its detector was fitted: drop what another detector refused."""
    recipe, path = recipes.load(folder / "archive.yaml"), folder / "metrics.json"
    if not path.is_file():
        return
    metrics = json.loads(path.read_bytes())
    measured = metrics.get("refusals")
    if measured is not None and (recipe.detector is None or measured["detector_sha256"] != recipe.detector.sha256):
        del metrics["refusals"]
    if "reference" in metrics:
        metrics["reference"] = reference.with_percentiles(metrics["reference"], folder, recipe, config, data)
    write_report(recipe, metrics, folder)


def install_report(out: Path, folder: Path) -> None:
    """Copy metrics and card to the model's folder; `RunError` unless they are of its weights and validation side."""
    recipe = recipes.load(folder / "archive.yaml")
    measured = report.load(out / "metrics.json")
    if measured.part != "validation" or measured.model.weights_sha256 != recipe.weights.sha256:
        raise RunError(f"{out}: measured other weights, or not the validation side; cannot be installed in {folder}.")
    for name in ("metrics.json", "CARD.md"):
        shutil.copyfile(out / name, folder / name)


def load_network(recipe: Recipe, folder: Path, options: Options) -> tuple[Recipe, nn.Module]:
    """Read the weights of a model, or those of the options; `RunError` if they are missing or of another checksum."""
    if (file := options.weights) is None:
        return recipe, weights.of_model(recipe, folder)
    if not file.is_file():
        raise RunError(f"{file}: not found. Give other weights.")
    measured = recipe.weights.model_copy(update={"sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    network = weights.load(networks.for_recipe(recipe), file)
    return recipe.model_copy(update={"weights": measured}), network


def load_images(recipe: Recipe, config: Settings, data: Path, part: Part) -> MeasuredData:
    """Read the images of a part of a data set."""
    if part == "all":
        return MeasuredData(None, *training_data.load_all(recipe, config, data))
    loaded = training_data.load(recipe, config, data)
    return MeasuredData(loaded.train, loaded.validation, loaded.split, loaded.sides.validation)


def previous_report(folder: Path, recipe: Recipe) -> Report | None:
    """Read the model's `metrics.json`, if it describes these weights."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    previous = report.load(path)
    return previous if previous.model.weights_sha256 == recipe.weights.sha256 else None


def check_split(images: MeasuredData, previous: Report, data: Path) -> None:
    """Reject a validation side that may contain training images of these weights."""
    if images.sha256 != previous.split.sha256:
        raise RunError(
            f"{data}: seed and share give another split ({images.sha256[:12]}) than that of the training "
            f"({previous.split.sha256[:12]}), so training images may be on the validation side. Use the data and "
            "settings of the training, or measure all of another data set."
        )
