"""Fits the prediction sets of a model whose weights stay: `radserve calibrate NAME --data DIR`."""

import json
import logging
from pathlib import Path

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import evaluate, recipe_files, release, settings, uncertainty
from training.cards import dataset_notes
from training.cards.card import card
from training.errors import RunError
from training.evaluators import outputs
from training.evaluators.binary import PREVALENCE

_log = logging.getLogger(__name__)


def calibrate(folder: Path, data: Path, *, install: bool) -> Recipe:
    """Fit a model's prediction sets on the validation side of its training, by patient; return its recipe.

    With `install`, rewrites recipe, metrics and card in the model's folder. Temperature and threshold stay as trained.
    """
    recipe = recipes.load(folder / "archive.yaml")
    if not recipe.is_binary:
        raise RunError(f"{recipe.name}: prediction sets need a classifier that decides between two labels.")
    config = settings.load(folder / "training.yaml")
    recipe, network = evaluate.load_network(recipe, folder, evaluate.Options())
    images = evaluate.load_images(recipe, config, data, "validation")
    previous = evaluate.previous_report(folder, recipe)
    if previous is None:
        raise RunError(f"{folder}: has no metrics.json of its weights, so their validation side is unknown. Train it.")
    evaluate.check_split(images, previous, data)
    logits = outputs.logits(network, images.measured, recipe.input, len(recipe.labels))
    recipe = _with_assumptions(recipe, config.sensitivity)
    sample = release.describe(images.measured, dataset_notes.for_dataset(config.data))
    recipe = uncertainty.fit(recipe, logits, images.measured, config.level, sample, images.sha256)
    measured = evaluate.certainty_metrics(recipe, config, logits, images.measured)
    for name, metric in measured.get("certainty", {}).items():
        _log.info("%s %s (95%% CI %s)", name, metric["value"], metric["ci95"])
    if install:
        metrics = json.loads((folder / "metrics.json").read_bytes()) | {"certainty": None} | measured
        recipe_files.write(recipe, folder / "archive.yaml", recipe_files.HEADER.format(name=recipe.name))
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        (folder / "CARD.md").write_text(card(recipe, metrics, config.data), encoding="utf-8")
    return recipe


def _with_assumptions(recipe: Recipe, sensitivity: float) -> Recipe:
    """Add what recipes of earlier releases state in words only; what a recipe records stays."""
    assert recipe.decision is not None
    calibration, decision = recipe.calibration, recipe.decision
    if calibration.prevalence is None:
        calibration = calibration.model_copy(update={"prevalence": PREVALENCE})
    if decision.sensitivity is None:
        decision = decision.model_copy(update={"sensitivity": sensitivity})
    return recipe.model_copy(update={"calibration": calibration, "decision": decision})
