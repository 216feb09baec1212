"""Fits the decision of a model without changing its weights: `radserve calibrate NAME --data DIR`."""

import json
import logging
from pathlib import Path

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import evaluate, evaluators, recipe_files, reference, release, second_pass, settings, uncertainty
from training.cards import dataset_notes
from training.cards.files import write_report
from training.errors import RunError
from training.evaluators import outputs
from training.evaluators.binary import PREVALENCE

_log = logging.getLogger(__name__)


def calibrate(folder: Path, data: Path, *, install: bool) -> Recipe:
    """Fit a model's decision on the validation side of its training, by patient; return its recipe.

    Of a classifier with two labels, fits the prediction sets, the margin and which images get a second pass;
    temperature and threshold stay as trained.
    Of a segmentation, fits temperature, threshold and smallest mask. With `install`, rewrites recipe, metrics and card
    in the model's folder; the command of the metrics remains that of the training.
    """
    recipe = recipes.load(folder / "archive.yaml")
    if recipe.decision is None:
        raise RunError(f"{recipe.name}: {len(recipe.labels)} labels have no threshold, so there is nothing to fit.")
    config = settings.load(folder / "training.yaml")
    second_pass.check(recipe, config)
    recipe, network = evaluate.load_network(recipe, folder, evaluate.Options())
    images = evaluate.load_images(recipe, config, data, "validation")
    previous = evaluate.previous_report(folder, recipe)
    if previous is None:
        raise RunError(f"{folder}: has no metrics.json of its weights, so their validation side is unknown. Train it.")
    evaluate.check_split(images, previous, data)
    logits = outputs.logits(network, images.measured, recipe.input, len(recipe.labels))
    sample = release.describe(images.measured, dataset_notes.for_dataset(config.data))
    if recipe.is_binary:
        recipe = _with_assumptions(recipe, config.sensitivity)
        recipe = uncertainty.fit(recipe, logits, images.measured, config.level, sample, images.sha256)
        recipe = uncertainty.with_margin(recipe, network, images.examples)
        passes = None
        if config.second_pass is None and recipe.second_pass is not None:
            recipe = recipe.model_copy(update={"second_pass": None})
        elif config.second_pass is not None:
            passes = second_pass.collect(network, recipe, images.examples)
            recipe = second_pass.fit(recipe, passes, images.measured, config.second_pass, sample)
        measured = {"certainty": None} | evaluate.certainty_metrics(recipe, config, logits, images.measured, passes)
    else:
        evaluator = evaluators.for_recipe(recipe)
        recipe = evaluator.calibrate(recipe, config, logits, images.measured, sample)
        evaluation = evaluator.measure(recipe, logits, images.measured, config.seed)
        measured = evaluate.create_report(recipe, config, images, evaluation, previous.command, previous.epoch)
        shares = reference.of_predictions(recipe, logits)
        measured["external"] = evaluate.external_figures(previous, recipe)
        measured["reference"] = reference.with_percentiles(shares, folder, recipe, config, data)
    for name, metric in (measured.get("certainty") or measured.get("validation", {})).items():
        _log.info("%s %s (95%% CI %s)", name, metric["value"], metric["ci95"])
    if install:
        metrics = json.loads((folder / "metrics.json").read_bytes()) | measured
        recipe_files.write(recipe, folder / "archive.yaml", recipe_files.HEADER.format(name=recipe.name))
        write_report(recipe, metrics, folder)
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
