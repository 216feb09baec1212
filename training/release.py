"""Releases a finished run: weights, metrics, recipe and card."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from handlers import recipe as recipes
from handlers.recipe import Recipe, Weights
from training import evaluate, evaluators, networks, recipe_files, reference, second_pass, uncertainty, weights
from training.batches import Images
from training.cards import dataset_notes
from training.cards.dataset_notes import DatasetNotes
from training.datasets.training_data import TrainingData
from training.errors import RunError
from training.evaluate import MeasuredData
from training.evaluators import outputs
from training.evaluators.evaluator import Logits
from training.fit import BEST
from training.settings import Settings

_FILES: Final = ("archive.yaml", "metrics.json", "CARD.md")
_log = logging.getLogger(__name__)


def release(recipe: Recipe, settings: Settings, data: TrainingData, out: Path, commands: Sequence[str]) -> Recipe:
    """Calibrate and measure the best epoch of a run, all with the weights as released.

    Writes `weights.safetensors`, `archive.yaml`, `metrics.json`, `CARD.md` and `plots` to `out`; `commands` trained the
    weights, the last one in this run. Raises `RunError` if there is no finished epoch in `out`.
    """
    notes, validation = dataset_notes.for_dataset(settings.data), data.validation
    evaluator = evaluators.for_recipe(recipe)
    network, epoch = _best_network(recipe, out)
    bias = _head_bias(network)
    offset = 0.0 if bias is None else evaluator.bias_offset(_logits(network, recipe, data), validation)
    if bias is not None and offset:
        with torch.no_grad():
            bias[-1] += offset
    file = out / recipe.weights.file
    # The weights of a demonstration are not shipped, so its recipe keeps the command that creates them.
    source = {"source": recipe.weights.source} if settings.demonstration else {}
    released = Weights(file=file.name, sha256=weights.save(network.state_dict(), file), **source)
    network = weights.load(network, file)
    logits = _logits(network, recipe, data)
    sample = describe(validation, notes)
    # A detector knows the outputs of the earlier weights.
    without: dict[str, Any] = {} if recipe.detector is None else {"detector": None}
    without |= {} if recipe.second_pass is None else {"second_pass": None}
    without |= {"known_failures": ()} if recipe.known_failures else {}  # those of the previous weights
    update = {"input": data.spec, "weights": released} | without
    recipe = recipe.model_copy(update=update)
    recipe = evaluator.calibrate(recipe, settings, logits, validation, sample)
    passes = None
    if recipe.is_binary:
        recipe = uncertainty.fit(recipe, logits, validation, settings.level, sample, data.split)
        recipe = uncertainty.with_margin(recipe, network, data.sides.validation)
        if settings.second_pass is not None:
            passes = second_pass.collect(network, recipe, data.sides.validation)
            recipe = second_pass.fit(recipe, passes, validation, settings.second_pass, sample)
    recipe = recipe.model_copy(update={"trained_on": _trained_on(data, recipe, notes)} | _with_offset(recipe, offset))
    recipe_files.write(recipe, out / "archive.yaml", recipe_files.HEADER.format(name=recipe.name))
    evaluation = evaluator.measure(recipe, logits, validation, settings.seed)
    images = MeasuredData(data.train, validation, data.split, data.sides.validation)
    report = evaluate.create_report(recipe, settings, images, evaluation, commands[-1], epoch)
    report["training"] = list(commands)
    if not settings.demonstration:
        report |= evaluate.robustness(recipe, network, validation, settings)
    report |= evaluate.certainty_metrics(recipe, settings, logits, validation, passes)
    report["reference"] = reference.of_predictions(recipe, logits)
    evaluate.write(report, recipe, evaluation, out)
    for name, metric in report["validation"].items():
        _log.info("%s %s", name, _format(metric))
    return recipes.load(out / "archive.yaml")


def _head_bias(network: nn.Module) -> nn.Parameter | None:
    """Return the bias per label, to be corrected; None if the network ends with a convolution, or has no bias."""
    heads = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    bias: nn.Parameter | None = heads[-1].bias if heads else None
    return bias


def describe(validation: Images, notes: DatasetNotes) -> str:
    """Describe the images of the validation side in words."""
    return f"{len(validation)} validation {notes.unit} of {len(set(validation.groups))} {notes.group}"


def install(out: Path, folder: Path) -> None:
    """Copy a released run into the model's folder."""
    recipe = out / "archive.yaml"
    if not recipe.is_file():
        raise RunError(f"{out}: contains no archive.yaml; the run has not been released.")
    loaded = recipes.load(recipe)
    own = [loaded.weights.file, *([] if loaded.detector is None else [loaded.detector.file])]
    for name in (*own, *_FILES):
        shutil.copyfile(out / name, folder / name)


def _best_network(recipe: Recipe, out: Path) -> tuple[nn.Module, int]:
    network = networks.for_recipe(recipe)
    state, epoch = weights.from_checkpoint(out / BEST)
    network.load_state_dict(state)
    return network, epoch


def _logits(network: nn.Module, recipe: Recipe, data: TrainingData) -> Logits:
    return outputs.logits(network, data.validation, data.spec, len(recipe.labels))


def _with_offset(recipe: Recipe, offset: float) -> dict[str, Any]:
    if not offset:
        return {}
    note = f"Before that, {offset:+.4f} was added to the bias of {recipe.labels[-1]}, fitted in the same way."
    fitted = f"{recipe.calibration.fitted} {note}"
    return {"calibration": recipe.calibration.model_copy(update={"fitted": fitted})}


def _trained_on(data: TrainingData, recipe: Recipe, notes: DatasetNotes) -> str:
    train, validation = data.train, data.validation
    counts = torch.bincount(train.targets, minlength=len(recipe.labels)).tolist()
    labels = " and ".join(f"{count} {label}" for count, label in zip(counts, recipe.labels, strict=True))
    amount = labels if len(recipe.labels) == 2 else str(len(train))
    return (
        f"{amount} {notes.unit} of {len(set(train.groups))} {notes.group}: {notes.source}, without {len(validation)} "
        f"{notes.unit} of {len(set(validation.groups))} other {notes.group} for validation."
    )


def _format(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return "not defined"
    low, high = metric["ci95"]
    return f"{metric['value']:.4f} (95% CI {low:.4f} to {high:.4f})"
