"""A finished run to what is shipped: weights, their figures, the recipe that names both, the card."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from handlers import recipe as recipes
from handlers.recipe import Calibration, Decision, Recipe, Weights
from training import bootstrap, calibrate, evaluate, metrics, networks, stress, threshold, weights
from training.batches import Images
from training.card import card
from training.errors import RunError
from training.fit import BEST
from training.prepared import Prepared
from training.settings import Settings

_FILES: Final = ("archive.yaml", "metrics.json", "CARD.md")
_HEADER: Final = """\
# What the model is and how its input and output are read.
# `radserve train {name} --install` rewrites input.mean, input.std, decision, calibration, weights and trained_on.
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """A model as shipped, on its validation side.

    Attributes
    ----------
    recipe
        With the run's statistics, temperature, threshold and weights.
    probability
        Of the positive label, calibrated, for each validation image.
    """

    recipe: Recipe
    network: torch.nn.Module
    epoch: int
    positive: NDArray[np.bool_]
    probability: NDArray[np.float64]
    limit: float


def release(recipe: Recipe, settings: Settings, prepared: Prepared, out: Path, command: str) -> Recipe:
    """Calibrate, decide and measure the best epoch of a run; all on the weights as shipped.

    Leaves `weights.safetensors`, `archive.yaml`, `metrics.json` and `CARD.md` in `out`.

    Parameters
    ----------
    command
        That trained; stands in `metrics.json`.

    Raises
    ------
    RunError
        If there is no finished epoch in `out`, or the recipe decides nothing.
    """
    outcome = _outcome(recipe, settings, prepared, out)
    _write_recipe(outcome.recipe, out / "archive.yaml")
    report = _report(outcome, settings, prepared, command)
    (out / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / "CARD.md").write_text(card(outcome.recipe, report), encoding="utf-8")
    for name, figure in report["validation"].items():
        _log.info("%s %.4f (95 %% %.4f to %.4f)", name, figure["value"], *figure["ci95"])
    return outcome.recipe


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


def _outcome(recipe: Recipe, settings: Settings, prepared: Prepared, out: Path) -> Outcome:
    if recipe.decision is None:
        raise RunError(f"{recipe.name}: the recipe has no key 'decision'; a threshold has no positive label.")
    network = networks.create(recipe.network, recipe.outputs)
    state, epoch = weights.from_checkpoint(out / BEST)
    network.load_state_dict(state)
    validation, labels = prepared.validation, len(recipe.labels)
    place = recipe.labels.index(recipe.decision.positive)
    positive = (validation.targets == place).numpy()
    targets, equal = validation.targets.numpy(), metrics.equal_prevalence(positive)
    offset = calibrate.offset(evaluate.logits(network, validation, prepared.spec, labels), targets, equal)
    with torch.no_grad():
        network.head.bias[1] += offset  # type: ignore[union-attr, index, operator]
    file = out / recipe.weights.file
    sha256 = weights.save(network.state_dict(), file)
    logits = evaluate.logits(weights.load(network, file), validation, prepared.spec, labels)
    temperature = round(calibrate.temperature(logits, targets, equal), 4)
    probability = evaluate.probabilities(logits, temperature)[:, place]
    limit = threshold.for_sensitivity(positive, probability, settings.sensitivity)
    count = f"{len(validation)} validation films of {len(set(validation.groups))} patients"
    made = recipe.model_copy(
        update={
            "input": prepared.spec,
            "calibration": Calibration(
                temperature=temperature,
                fitted=f"Least negative log-likelihood on {count}, both labels weighed alike; "
                f"{offset:+.4f} was added to the bias of {recipe.labels[1]} before, found in the same way.",
            ),
            "decision": Decision(
                positive=recipe.decision.positive,
                threshold=limit,
                chosen=f"Highest with sensitivity of at least {settings.sensitivity:g} on {count}.",
            ),
            "weights": Weights(file=recipe.weights.file, sha256=sha256),
            "trained_on": _trained_on(prepared, recipe),
        }
    )
    return Outcome(made, network, epoch, positive, probability, limit)


def _trained_on(prepared: Prepared, recipe: Recipe) -> str:
    counts = _counts(prepared.train, recipe)
    labels = " and ".join(f"{count} {label}" for label, count in counts["labels"].items())
    return (
        f"{labels} films of {counts['patients']} patients: official train and val parts of the Kermany chest films "
        f"(children), less {len(prepared.validation)} films of {len(set(prepared.validation.groups))} other patients "
        "for validation."
    )


def _counts(images: Images, recipe: Recipe) -> dict[str, Any]:
    labels = Counter(images.targets.tolist())
    return {
        "films": len(images),
        "patients": len(set(images.groups)),
        "labels": {label: labels[place] for place, label in enumerate(recipe.labels)},
    }


def _report(outcome: Outcome, settings: Settings, prepared: Prepared, command: str) -> dict[str, Any]:
    recipe, positive, probability = outcome.recipe, outcome.positive, outcome.probability

    def statistic(places: NDArray[np.intp]) -> dict[str, float]:
        return metrics.figures(positive[places], probability[places], outcome.limit)

    measured = bootstrap.intervals(statistic, prepared.validation.groups, settings.seed)
    return {
        "model": {"name": recipe.name, "version": recipe.version, "weights_sha256": recipe.weights.sha256},
        "command": command,
        "seed": settings.seed,
        "epoch": outcome.epoch,
        "temperature": recipe.calibration.temperature,
        "threshold": outcome.limit,
        "split": {
            "sha256": prepared.split,
            "train": _counts(prepared.train, recipe),
            "validation": _counts(prepared.validation, recipe),
        },
        "interval": "95 %, percentile bootstrap over patients, 2000 rounds",
        "validation": {name: bootstrap.rounded(interval) for name, interval in measured.items()},
        "confusion": dict(metrics.confusion_counts(positive, probability, outcome.limit)),
        "stress": _stress(outcome, prepared),
    }


def _stress(outcome: Outcome, prepared: Prepared) -> dict[str, dict[str, float]]:
    recipe = outcome.recipe
    assert recipe.decision is not None
    place = recipe.labels.index(recipe.decision.positive)
    found = {}
    for name, images in stress.conditions(prepared.validation).items():
        logits = evaluate.logits(outcome.network, images, prepared.spec, len(recipe.labels))
        probability = evaluate.probabilities(logits, recipe.calibration.temperature)[:, place]
        figures = metrics.figures(outcome.positive, probability, outcome.limit)
        found[name] = {key: round(figures[key], 4) for key in ("auroc", "sensitivity", "specificity")}
    return found


def _write_recipe(recipe: Recipe, path: Path) -> None:
    text = yaml.safe_dump(
        recipe.model_dump(mode="json"), sort_keys=False, width=100, default_flow_style=None, allow_unicode=True
    )
    path.write_text(_HEADER.format(name=recipe.name) + text, encoding="utf-8")
    recipes.load(path)
