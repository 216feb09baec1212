"""Placeholder models with random weights, to try out everything around a model."""

import shutil
from pathlib import Path
from typing import Final

import torch

from handlers.recipe import Calibration, Recipe, Weights
from radserve.build import trained_network
from radserve.build.model_store import UNTRAINED
from radserve.build.source import Source
from training import recipe_files, weights

WARNING: Final = "Untrained: this model has random weights and its predictions are meaningless. For testing only."
_SEED: Final = 0
_CARD: Final = """\
# {name} {version}: untrained

**This archive has random weights. Its predictions are meaningless**, and each response repeats this as a `warning`.

It was built by `radserve build {name} --untrained`, to test what surrounds a model: formats, speed, memory and
deployment. No data was used; nothing was measured, calibrated or chosen.

{hint}
"""


def create(source: Source, folder: Path) -> Recipe:
    """Create a copy of a model's folder with random weights, equal for equal recipes, and return its marked recipe."""
    recipe = source.recipe
    folder.mkdir()
    for name in ("torchserve.yaml", recipe.sample):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    untrained = _mark(recipe, _write_weights(recipe, folder / recipe.weights.file))
    recipe_files.write(untrained, folder / "archive.yaml", f"# {WARNING}\n")
    card = _CARD.format(name=recipe.name, version=UNTRAINED, hint=source.weights_hint)
    (folder / "CARD.md").write_text(card, encoding="utf-8")
    return untrained


def _write_weights(recipe: Recipe, path: Path) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return weights.save(trained_network.create(recipe).state_dict(), path)


def _mark(recipe: Recipe, sha256: str) -> Recipe:
    update = {
        "version": UNTRAINED,
        "title": f"UNTRAINED, random weights: {recipe.title}",
        "calibration": Calibration(temperature=1.0, fitted="Not calibrated: random weights."),
        "uncertainty": None,
        "second_pass": None,
        "weights": Weights(file=recipe.weights.file, sha256=sha256, source=recipe.weights.source),
        "trained_on": "Nothing: random weights.",
        "licence": "Apache-2.0",
        "known_failures": (),
        "warning": WARNING,
        "detector": None,
    }
    if recipe.decision is not None:
        decision = {"threshold": 0.5, "smallest": 1, "chosen": "Not chosen: random weights.", "sensitivity": None}
        update["decision"] = recipe.decision.model_copy(update=decision)
    return recipe.model_copy(update=update)
