"""A recipe's folder and a data set to a trained, measured model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.datasets.prepared import Prepared, prepare
from training.errors import RunError
from training.fit import LAST, Run, fit
from training.metrics.report import parse
from training.release import install, release
from training.trackers import Tracker

SETTINGS: Final = "training.yaml"


@dataclass(frozen=True)
class Options:
    """How to run, next to what `training.yaml` says.

    Attributes
    ----------
    resume
        Go on from the last complete epoch in the result folder.
    overrides
        `key=value` over `training.yaml`.
    install
        Put weights, figures and recipe into the archive's folder at the end.
    progress
        Show a progress bar.
    start
        Folder of a released run, or of an archive, whose weights are trained further; its split must be this one.
    tracker, online
        See `training.track.logger`.
    command
        Stands in `metrics.json`.
    """

    resume: bool = False
    overrides: Sequence[str] = ()
    install: bool = False
    progress: bool = True
    start: Path | None = None
    tracker: Tracker = "tensorboard"
    online: bool = False
    command: str = "called from Python"


def train(folder: Path, data: Path, out: Path, options: Options | None = None) -> Recipe:
    """Train, calibrate, measure.

    Parameters
    ----------
    folder
        Holds `archive.yaml` and `training.yaml`.
    data
        The data set, in the layout of its public download.
    out
        Result folder.

    Returns
    -------
    The recipe as `out` holds it.

    Raises
    ------
    RadServeError
        Naming what is wrong with recipe, settings, data or result folder.
    """
    options = options or Options()
    recipe = recipes.load(folder / "archive.yaml")
    chosen = settings.load(folder / SETTINGS, options.overrides)
    prepared = prepare(recipe, chosen, data)
    command = _command(out, options)
    start = None if options.start is None else _start(options.start, prepared)
    run = Run(out, options.resume, options.progress, options.tracker, options.online, start=start)
    fit(recipe, chosen, prepared, run)
    made = release(recipe, chosen, prepared, out, command)
    if options.install:
        install(out, folder)
    return made


def _start(folder: Path, prepared: Prepared) -> Path:
    """Find the weights to begin with; what they were trained on must not be on the validation side."""
    recipe, figures = recipes.load(folder / "archive.yaml"), folder / "metrics.json"
    if not figures.is_file():
        raise RunError(f"{figures}: missing, so nothing tells what the weights were trained on. Give a released run.")
    split = parse(json.loads(figures.read_text(encoding="utf-8")), str(figures)).split.sha256
    if split != prepared.split:
        raise RunError(
            f"{folder}: was trained on another split ({split[:12]}) than this run has ({prepared.split[:12]}), so its "
            "images may be on the validation side. Give the same data, seed and share."
        )
    return folder / recipe.weights.file


def _command(out: Path, options: Options) -> str:
    """Keep the command that began the run, whichever one ends it."""
    kept = out / "command.txt"
    # What was refused before its first epoch began no run.
    if not (kept.exists() and (out / LAST).exists()):
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(options.command + "\n", encoding="utf-8")
    return kept.read_text(encoding="utf-8").strip()
