"""Weights and a data set to figures, card and pictures: `radserve evaluate`."""

from __future__ import annotations

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
from training.cards import datasets as abouts
from training.cards.card import card
from training.datasets.prepared import prepare, whole
from training.errors import RunError
from training.evaluators import Verdict, outputs, stress
from training.metrics import binary, bootstrap
from training.metrics.report import Report, parse
from training.settings import Settings

Part = Literal["validation", "all"]


@dataclass(frozen=True)
class Sides:
    """What was trained on and what is measured on.

    Attributes
    ----------
    train
        None where it is not known or nothing was trained.
    sha256
        Of the split.
    """

    train: Images | None
    measured: Images
    sha256: str


@dataclass(frozen=True)
class Origin:
    """Where figures come from.

    Attributes
    ----------
    command
        That made them.
    epoch
        Whose weights they are of; None where they were imported.
    part
        On what they were measured.
    """

    command: str
    epoch: int | None
    part: Part = "validation"


@dataclass(frozen=True)
class Options:
    """What to evaluate.

    Attributes
    ----------
    part
        `validation` is the side that training put aside; `all` is for data that it never saw.
    weights
        Instead of those beside the recipe; their sha256 is not compared then.
    overrides
        `key=value` over `training.yaml`.
    """

    part: Part = "validation"
    weights: Path | None = None
    overrides: Sequence[str] = ()
    command: str = "called from Python"


def evaluate(folder: Path, data: Path, out: Path, options: Options) -> dict[str, Any]:
    """Measure an archive's weights; leaves `metrics.json`, `CARD.md` and pictures in `out`.

    Parameters
    ----------
    folder
        Holds `archive.yaml`, `training.yaml` and the weights.

    Returns
    -------
    The metrics.

    Raises
    ------
    RadServeError
        Naming what is wrong with recipe, settings, weights or data; also where the validation side
        would not be that of the training.
    """
    recipe = recipes.load(folder / "archive.yaml")
    chosen = settings.load(folder / "training.yaml", options.overrides)
    recipe, network = _network(recipe, folder, options)
    sides = _sides(recipe, chosen, data, options.part)
    known = _known(folder, recipe)
    if known is not None and sides.train is not None:
        _check_split(sides, known, data)
    found = outputs.logits(network, sides.measured, recipe.input, len(recipe.labels))
    verdict = evaluators.of(recipe).measure(recipe, found, sides.measured, chosen.seed)
    origin = Origin(options.command, None if known is None else known.epoch, options.part)
    report = describe(recipe, chosen, sides, verdict, origin)
    if not chosen.demonstration:
        report |= stressed(recipe, network, sides.measured)
    write(report, recipe, verdict, out)
    return report


def describe(recipe: Recipe, chosen: Settings, sides: Sides, verdict: Verdict, origin: Origin) -> dict[str, Any]:
    """Put together what `metrics.json` holds; see `training.metrics.report.Report`."""
    about = abouts.of(chosen.data)
    report: dict[str, Any] = {
        "model": {"name": recipe.name, "version": recipe.version, "weights_sha256": recipe.weights.sha256},
        "task": recipe.task,
        "data": chosen.data,
        "demonstration": chosen.demonstration,
        "command": origin.command,
        "seed": chosen.seed,
        "epoch": origin.epoch,
        "temperature": recipe.calibration.temperature,
        "threshold": None if recipe.decision is None else recipe.decision.threshold,
        "part": origin.part,
        "split": {
            "sha256": sides.sha256,
            "train": None if sides.train is None else _counts(sides.train, recipe),
            "validation": _counts(sides.measured, recipe),
        },
        "interval": bootstrap.words(about.group),
        "validation": verdict.figures,
        "confusion": verdict.confusion,
    }
    return report


def stressed(recipe: Recipe, network: nn.Module, aside: Images) -> dict[str, Any]:
    """Measure under fixed changes, where they were made for the data: gray images with a yes or no."""
    if recipe.decision is None or recipe.task != "classification":
        return {}
    place = recipe.labels.index(recipe.decision.positive)
    positive = (aside.targets == place).numpy()
    found = {}
    for name, images in stress.conditions(aside).items():
        logits = outputs.logits(network, images, recipe.input, len(recipe.labels))
        probability = outputs.probabilities(logits, recipe.calibration.temperature)[:, place]
        figures = binary.figures(positive, probability, recipe.decision.threshold)
        found[name] = {key: round(figures[key], 4) for key in ("auroc", "sensitivity", "specificity")}
    return {"stress": found}


def write(report: dict[str, Any], recipe: Recipe, verdict: Verdict, out: Path) -> None:
    """Write figures, card and pictures into a result folder."""
    out.mkdir(parents=True, exist_ok=True)
    text = card(recipe, report, report["data"])
    (out / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / "CARD.md").write_text(text, encoding="utf-8")
    (out / "plots").mkdir(exist_ok=True)
    verdict.plot(out / "plots")


def install_report(out: Path, folder: Path) -> None:
    """Copy figures and card of an evaluation into the archive's folder.

    Raises
    ------
    RunError
        If they are not those of the archive's own weights on the validation side.
    """
    recipe = recipes.load(folder / "archive.yaml")
    found = parse(json.loads((out / "metrics.json").read_text(encoding="utf-8")), str(out / "metrics.json"))
    if found.part != "validation" or found.model.weights_sha256 != recipe.weights.sha256:
        raise RunError(f"{out}: measured other weights, or not the validation side; that is no figure of {folder}.")
    for name in ("metrics.json", "CARD.md"):
        shutil.copyfile(out / name, folder / name)


def _network(recipe: Recipe, folder: Path, options: Options) -> tuple[Recipe, nn.Module]:
    file = options.weights or folder / recipe.weights.file
    if not file.is_file():
        source = recipe.weights.source or f"radserve train {recipe.name} --data DIR --install"
        raise RunError(f"{file}: missing. Get it with '{source}', or name other weights.")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    if options.weights is None and sha256 != recipe.weights.sha256:
        raise RunError(f"{file}: has sha256 {sha256}, the recipe's key 'weights.sha256' says {recipe.weights.sha256}.")
    told = recipe.weights.model_copy(update={"sha256": sha256})
    network = weights.load(networks.create(recipe.network, recipe.outputs), file)
    return recipe.model_copy(update={"weights": told}), network


def _sides(recipe: Recipe, chosen: Settings, data: Path, part: Part) -> Sides:
    if part == "all":
        images, sha256 = whole(recipe, chosen, data)
        return Sides(None, images, sha256)
    prepared = prepare(recipe, chosen, data)
    return Sides(prepared.train, prepared.validation, prepared.split)


def _known(folder: Path, recipe: Recipe) -> Report | None:
    """Read the figures beside the weights, where they are of these weights."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    known = parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    return known if known.model.weights_sha256 == recipe.weights.sha256 else None


def _check_split(sides: Sides, known: Report, data: Path) -> None:
    """Refuse a validation side that may hold what the weights were trained on."""
    if sides.sha256 != known.split.sha256:
        raise RunError(
            f"{data}: seed and share give another split ({sides.sha256[:12]}) than the training had "
            f"({known.split.sha256[:12]}), so its images may be on the validation side. Give the data and settings of "
            "the training, or measure all of a data set that it never saw."
        )


def _counts(images: Images, recipe: Recipe) -> dict[str, Any]:
    labels = Counter(images.targets.tolist())
    return {
        "images": len(images),
        "groups": len(set(images.groups)),
        "labels": {label: labels[place] for place, label in enumerate(recipe.labels)},
    }
