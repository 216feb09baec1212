"""A recipe's folder and a data set to a trained, measured model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.fit import Run, fit
from training.prepared import prepare
from training.release import install, release
from training.track import Tracker

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
    tracker, online
        See `training.track.logger`.
    command
        Stands in `metrics.json`.
    """

    resume: bool = False
    overrides: Sequence[str] = ()
    install: bool = False
    progress: bool = True
    tracker: Tracker = "tensorboard"
    online: bool = False
    command: str = ""


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
    fit(recipe, chosen, prepared, Run(out, options.resume, options.progress, options.tracker, options.online))
    made = release(recipe, chosen, prepared, out, command)
    if options.install:
        install(out, folder)
    return made


def _command(out: Path, options: Options) -> str:
    """Keep the command that began the run, whichever one ends it."""
    kept = out / "command.txt"
    if not kept.exists():
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(options.command + "\n", encoding="utf-8")
    return kept.read_text(encoding="utf-8").strip()
