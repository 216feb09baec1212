"""`radserve import`: bring your own weights, as a file or into an archive's folder."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from handlers import recipe as recipes
from handlers.recipe import Recipe
from radserve.build import checkpoint, model
from radserve.errors import WeightsImportError
from training import weights
from training.recipe_files import write

ORIGINAL: Final = "original.yaml"
"""What differs from a recipe for a checkpoint of the original system, beside the recipe."""
_COMMENT: Final = "# Weights brought by `radserve import {name} --install`; nothing here was measured on them.\n"
_CARD: Final = """\
# {name} {version}: imported weights

{title}.

The weights were imported from `{checkpoint}` (sha256 `{checkpoint_sha256}`), not trained here. **Nothing has been
measured, calibrated or chosen with them**: probabilities are the network's own, the threshold is a default. Measure
them with `radserve evaluate {name} --data DIR` before anybody relies on an answer.
"""


@dataclass(frozen=True)
class Imported:
    """What came of an import: the recipe that serves the weights, and where they lie."""

    recipe: Recipe
    weights: Path


def convert(recipe: Recipe, source: Path, out: Path) -> Imported:
    """Write the weights of a checkpoint as a file that the recipe's network loads.

    Parameters
    ----------
    source
        Checkpoint of the original system; see `radserve.build.builder.checkpoint`.
    out
        The safetensors file to write; its folder must be there.

    Raises
    ------
    ImportFailed
        If the checkpoint does not fit.
    """
    if not out.parent.is_dir():
        raise WeightsImportError(f"{out}: there is no folder {out.parent}; make it first.")
    state = checkpoint.fit(checkpoint.read(source), model.create(recipe), str(source))
    # Beside its place first: a failure must not leave half a file under a good name.
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as scratch:
        made = Path(scratch) / "weights"
        digest = weights.save(state, made)
        made.replace(out)
    named = recipe.weights.model_copy(update={"sha256": digest})
    return Imported(recipe.model_copy(update={"weights": named}), out)


def install(folder: Path, source: Path, *, original: bool) -> Imported:
    """Put the weights of a checkpoint into an archive's folder, with a recipe and a card that say so.

    Where the recipe had trained weights, the archive becomes another major version: two models
    must not answer under one. Figures of the weights before are removed.

    Parameters
    ----------
    original
        Whether to take preprocessing, decision and calibration from `original.yaml`.

    Raises
    ------
    ImportFailed
        If the checkpoint does not fit, or there is no `original.yaml`.
    """
    before = recipes.load(folder / "archive.yaml")
    made = _recipe(before, source, _original(folder) if original else {})
    imported = convert(made, source, folder / before.weights.file)
    write(imported.recipe, folder / "archive.yaml", _COMMENT.format(name=before.name))
    for stale in ("metrics.json", "plots"):
        _remove(folder / stale)
    (folder / "CARD.md").write_text(_card(imported.recipe, source), encoding="utf-8")
    return imported


def _original(folder: Path) -> dict[str, Any]:
    path = folder / ORIGINAL
    if not path.is_file():
        raise WeightsImportError(
            f"{path}: there is none; the recipe's own preprocessing is the original system's, or that is not known."
        )
    changes: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return changes


def _recipe(before: Recipe, source: Path, changes: dict[str, Any]) -> Recipe:
    values = before.model_dump(mode="json", exclude_unset=True)
    values["calibration"] = {"temperature": 1.0, "fitted": "Not fitted: imported weights."}
    if before.decision is not None:
        values["decision"] |= {"threshold": 0.5, "smallest": 1, "chosen": "Not chosen: imported weights."}
    values["trained_on"] = f"Not known here: imported from {source.name}, sha256 {checkpoint.sha256(source)}."
    values["licence"] = "Not known here: that of the imported weights and of the data they were trained on."
    values["weights"] = {"file": before.weights.file, "sha256": before.weights.sha256}
    if before.weights.sha256 is not None:
        values["version"] = f"{int(before.version.partition('.')[0]) + 1}.0.0"
    return recipes.parse(_over(values, changes), source=ORIGINAL)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    return below | {
        key: _over(below.get(key, {}), value) if isinstance(value, dict) else value for key, value in above.items()
    }


def _card(recipe: Recipe, source: Path) -> str:
    return _CARD.format(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        checkpoint=source.name,
        checkpoint_sha256=checkpoint.sha256(source),
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
