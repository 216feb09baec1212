"""A finished run to what is shipped: weights, their figures, the recipe that names both, the card."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from handlers import recipe as recipes
from handlers.recipe import Recipe, Weights
from training import evaluate, evaluators, networks, weights
from training import recipe_files as files
from training.cards import datasets as abouts
from training.datasets.prepared import Prepared
from training.errors import RunError
from training.evaluate import Origin, Sides
from training.evaluators import outputs
from training.fit import BEST
from training.settings import Settings

_FILES: Final = ("archive.yaml", "metrics.json", "CARD.md")
_HEADER: Final = """\
# What the model is and how its input and output are read.
# `radserve train {name} --install` rewrites input.mean, input.std, decision, calibration, weights and trained_on.
"""
_log = logging.getLogger(__name__)


def release(recipe: Recipe, settings: Settings, prepared: Prepared, out: Path, command: str) -> Recipe:
    """Calibrate, decide and measure the best epoch of a run; all on the weights as shipped.

    Leaves `weights.safetensors`, `archive.yaml`, `metrics.json`, `CARD.md` and `plots` in `out`.

    Parameters
    ----------
    command
        That trained; stands in `metrics.json`.

    Raises
    ------
    RunError
        If there is no finished epoch in `out`.
    """
    about, aside = abouts.of(settings.data), prepared.validation
    judging = evaluators.of(recipe)
    network, epoch = _best(recipe, out)
    offset = judging.offset(_logits(network, recipe, prepared), aside)
    if offset:
        with torch.no_grad():
            network.head.bias[-1] += offset  # type: ignore[union-attr, index, operator]
    file = out / recipe.weights.file
    # What is released lies beside its recipe; a demonstration is not shipped, so its recipe still says how to train.
    kept = {"source": recipe.weights.source} if settings.demonstration else {}
    told = Weights(file=file.name, sha256=weights.save(network.state_dict(), file), **kept)
    found = _logits(weights.load(network, file), recipe, prepared)
    count = f"{len(aside)} validation {about.unit} of {len(set(aside.groups))} {about.group}"
    made = judging.choose(
        recipe.model_copy(update={"input": prepared.spec, "weights": told}), settings, found, aside, count
    )
    made = made.model_copy(update={"trained_on": _trained_on(prepared, recipe, about)} | _fitted(made, offset))
    files.write(made, out / "archive.yaml", _HEADER.format(name=recipe.name))
    verdict = judging.measure(made, found, aside, settings.seed)
    sides = Sides(prepared.train, aside, prepared.split)
    report = evaluate.describe(made, settings, sides, verdict, Origin(command, epoch))
    if not settings.demonstration:
        report |= evaluate.stressed(made, network, aside)
    evaluate.write(report, made, verdict, out)
    for name, figure in report["validation"].items():
        _log.info("%s %s", name, _words(figure))
    return recipes.load(out / "archive.yaml")


def install(out: Path, folder: Path) -> None:
    """Copy a released run into the archive's folder.

    Raises
    ------
    RunError
        If the run has not been released.
    """
    made = out / "archive.yaml"
    if not made.is_file():
        raise RunError(f"{out}: holds no archive.yaml; the run has not been released.")
    for name in (recipes.load(made).weights.file, *_FILES):
        shutil.copyfile(out / name, folder / name)


def _best(recipe: Recipe, out: Path) -> tuple[nn.Module, int]:
    network = networks.create(recipe.network, recipe.outputs)
    state, epoch = weights.from_checkpoint(out / BEST)
    network.load_state_dict(state)
    return network, epoch


def _logits(network: nn.Module, recipe: Recipe, prepared: Prepared) -> evaluators.Logits:
    return outputs.logits(network, prepared.validation, prepared.spec, len(recipe.labels))


def _fitted(made: Recipe, offset: float) -> dict[str, Any]:
    if not offset:
        return {}
    added = f"{offset:+.4f} was added to the bias of {made.labels[-1]} before, found in the same way."
    words = f"{made.calibration.fitted} {added}"
    return {"calibration": made.calibration.model_copy(update={"fitted": words})}


def _trained_on(prepared: Prepared, recipe: Recipe, about: abouts.About) -> str:
    train, aside = prepared.train, prepared.validation
    counts = torch.bincount(train.targets, minlength=len(recipe.labels)).tolist()
    labels = " and ".join(f"{count} {label}" for count, label in zip(counts, recipe.labels, strict=True))
    told = labels if len(recipe.labels) == 2 else str(len(train))
    return (
        f"{told} {about.unit} of {len(set(train.groups))} {about.group}: {about.source}, less {len(aside)} "
        f"{about.unit} of {len(set(aside.groups))} other {about.group} for validation."
    )


def _words(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not defined"
    low, high = figure["ci95"]
    return f"{figure['value']:.4f} (95 % {low:.4f} to {high:.4f})"
