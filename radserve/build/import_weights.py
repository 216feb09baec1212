"""Imports the weights of a checkpoint, into a file or into a model's folder."""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from handlers import recipe as recipes
from handlers.recipe import Recipe
from radserve.build import checkpoint, trained_network
from radserve.errors import WeightsImportError
from radserve.files import write_atomically
from training import recipe_files, weights

logger = logging.getLogger(__name__)

ORIGINAL: Final = "original.yaml"  # recipe keys with the values of the original system
_COMMENT: Final = "# Weights imported by `radserve import {name} --install`; nothing here was measured on them.\n"
_CARD: Final = """\
# {name} {version}: imported weights

{title}.

The weights were imported from `{checkpoint}` (sha256 `{sha256}`), not trained here. **Nothing has been measured,
calibrated or chosen with them**: the probabilities are the network's own, the threshold is a default unless the recipe
(`decision.chosen`) says otherwise. Before you rely on a prediction, measure the model on labelled images of a data set
that `radserve train` reads: name it in `training.yaml` (`data: chest_xray`) and run
`radserve evaluate {name} --data DIR --part all --install`.
"""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to import."""

    path: Path
    key: str | None = None  # of the weights in it, if it has several; see `radserve.build.checkpoint.load`
    half: bool = True  # whether to round the weights to half precision


def convert(recipe: Recipe, source: Checkpoint, out: Path, *, new: bool = False) -> Recipe:
    """Convert a checkpoint to safetensors and return the recipe for it; WeightsImportError if it does not fit.

    `new` rejects an existing file, and one that is not named like a file of weights.
    """
    if new and (out.suffix != ".safetensors" or out.exists()):
        raise WeightsImportError(f"{out}: must be a new file, with the suffix .safetensors. Choose another name.")
    if not out.parent.is_dir():
        raise WeightsImportError(f"{out}: folder {out.parent} does not exist; create it first.")
    fitted = checkpoint.load(source.path, trained_network.create(recipe), source.key, half=source.half)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as scratch:
        temporary = Path(scratch) / "weights"
        digest = weights.save(fitted.state, temporary, half=source.half)
        temporary.replace(out)
    if fitted.key:
        logger.info("imported the weights at %r", fitted.key)
    if fitted.ignored:
        logger.info("ignored %d tensors beside them: %s", len(fitted.ignored), ", ".join(fitted.ignored))
    if fitted.incomplete:
        logger.warning("other weights do not fit and are ignored: %s", ", ".join(map(repr, fitted.incomplete)))
    imported = recipe.weights.model_copy(update={"sha256": digest})
    return recipe.model_copy(update={"weights": imported})


def install(folder: Path, source: Checkpoint, *, original: bool) -> Recipe:
    """Install the weights of a checkpoint in a model's folder, with a matching recipe, which is returned, and card.

    If the recipe had trained weights, its major version increases, because two models must not share a version. Metrics
    and detector of the previous weights are deleted. `original` applies preprocessing, decision and calibration of
    `original.yaml`.
    """
    changes = _original(folder) if original else {}
    previous = recipes.load(folder / "archive.yaml")
    digest = checkpoint.sha256(source.path)
    recipe = _recipe(previous, source.path.name, digest, changes)
    imported = convert(recipe, source, folder / previous.weights.file)
    recipe_files.write(imported, folder / "archive.yaml", _COMMENT.format(name=previous.name))
    (folder / "metrics.json").unlink(missing_ok=True)
    if previous.detector is not None:
        (folder / previous.detector.file).unlink(missing_ok=True)
    shutil.rmtree(folder / "plots", ignore_errors=True)
    write_atomically(folder / "CARD.md", card(recipe, source.path.name, digest), mode=0o644)
    return imported


def card(recipe: Recipe, checkpoint_name: str, sha256: str) -> str:
    """Return the card of a model with imported weights."""
    return _CARD.format(
        name=recipe.name, version=recipe.version, title=recipe.title, checkpoint=checkpoint_name, sha256=sha256
    )


def _original(folder: Path) -> dict[str, Any]:
    path = folder / ORIGINAL
    if not path.is_file():
        raise WeightsImportError(
            f"{path}: missing; either the recipe already preprocesses as the original system did, or its "
            "preprocessing is unknown. Omit --original."
        )
    changes: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return changes


def _recipe(previous: Recipe, checkpoint_name: str, sha256: str, changes: dict[str, Any]) -> Recipe:
    values = previous.model_dump(mode="json", exclude_unset=True)
    values["calibration"] = {"temperature": 1.0, "fitted": "Not fitted: imported weights."}
    values.pop("uncertainty", None)
    values.pop("second_pass", None)
    values.pop("detector", None)  # it was fitted to the features of the previous weights
    if previous.decision is not None:
        values["decision"].pop("sensitivity", None)
        values["decision"] |= {"threshold": 0.5, "smallest": 1, "chosen": "Not chosen: imported weights."}
    values["trained_on"] = f"Unknown: imported from {checkpoint_name}, sha256 {sha256}."
    values["licence"] = "Unknown: that of the imported weights and of the data they were trained on."
    values.pop("known_failures", None)
    values["weights"] = {"file": previous.weights.file, "sha256": previous.weights.sha256}
    if previous.weights.sha256 is not None:
        values["version"] = f"{int(previous.version.partition('.')[0]) + 1}.0.0"
    return recipes.parse(_merge(values, changes), source=ORIGINAL)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merge(base.get(key, {}), value) if isinstance(value, dict) else value for key, value in changes.items()
    }
