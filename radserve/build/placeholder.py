"""A model with random weights, for trying out what surrounds it; every part of its archive says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import torch

from handlers.recipe import Calibration, Recipe, Weights
from radserve.build import model
from radserve.build.builder import how_to_get
from radserve.build.model_store import UNTRAINED
from training import recipe_files, weights

WARNING: Final = "Untrained: this model has random weights and its answers mean nothing. It is for trying out only."
_SEED: Final = 0
_CARD: Final = """\
# {name} {version}: untrained

**This archive has random weights. Its answers mean nothing**, and each of them says so in its `warning`.

It was built by `radserve build {name} --untrained`, to try out what surrounds a model: formats, speed, memory,
deployment. No data was used, nothing was measured, calibrated or chosen.

{source}
"""


def stand_in(recipe: Recipe, folder: Path, target: Path) -> Recipe:
    """Make the folder of a recipe anew, with random weights; equal recipes get equal ones.

    Parameters
    ----------
    folder
        Of the recipe; its sample and `model-config.yaml` are taken over.
    target
        Folder to make.

    Returns
    -------
    The recipe that stands in `target`.
    """
    target.mkdir()
    for name in ("model-config.yaml", recipe.sample):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    made = _recipe(recipe, _write_weights(recipe, target / recipe.weights.file))
    recipe_files.write(made, target / "archive.yaml", f"# {WARNING}\n")
    card = _CARD.format(name=recipe.name, version=UNTRAINED, source=how_to_get(recipe))
    (target / "CARD.md").write_text(card, encoding="utf-8")
    return made


def _write_weights(recipe: Recipe, path: Path) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return weights.save(model.create(recipe).state_dict(), path)


def _recipe(recipe: Recipe, sha256: str) -> Recipe:
    update = {
        "version": UNTRAINED,
        "title": f"UNTRAINED, random weights: {recipe.title}",
        "calibration": Calibration(temperature=1.0, fitted="Not calibrated: random weights."),
        "weights": Weights(file=recipe.weights.file, sha256=sha256, source=recipe.weights.source),
        "trained_on": "Nothing: random weights.",
        "licence": "Apache-2.0",
        "warning": WARNING,
    }
    if recipe.decision is not None:
        chosen = {"threshold": 0.5, "smallest": 1, "chosen": "Not chosen: random weights."}
        update["decision"] = recipe.decision.model_copy(update=chosen)
    return recipe.model_copy(update=update)
