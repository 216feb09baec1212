"""Trains, calibrates and measures a model: `radserve train`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import second_pass, settings
from training.datasets import training_data
from training.datasets.training_data import Sides
from training.detector.fit import fit_detector
from training.evaluate import refresh
from training.fit import LAST, Run, fit
from training.release import install, release
from training.start import Start, starting_point
from training.trackers import Tracker

SETTINGS: Final = "training.yaml"


@dataclass(frozen=True)
class Options:
    """Options of a training run that are not in `training.yaml`."""

    resume: bool = False  # continue after the last complete epoch in the result folder
    overrides: Sequence[str] = ()  # `key=value` that replace settings of `training.yaml`
    install: bool = False  # copy weights, metrics, recipe and card into the model's folder
    progress: bool = True  # show a progress bar
    start: Path | None = None  # released run or model folder, whose weights are trained further
    tracker: Tracker = "tensorboard"  # see training.trackers.logger
    online: bool = False
    command: str = "called from Python"  # for `metrics.json`


def train(folder: Path, data: Path, out: Path, options: Options | None = None) -> Recipe:
    """Train, calibrate and measure the model of a folder; return the recipe that is written to `out`."""
    options = options or Options()
    recipe = recipes.load(folder / "archive.yaml")
    config = settings.load(folder / SETTINGS, options.overrides)
    second_pass.check(recipe, config)
    loaded = training_data.load(recipe, config, data)
    start = Start() if options.start is None else starting_point(options.start, loaded.sides)
    commands = _record(out, start, loaded.sides, options)
    run = Run(out, options.resume, options.progress, options.tracker, options.online, start=start.weights)
    fit(recipe, config, loaded, run)
    released = release(recipe, config, loaded, out, commands)
    if config.detector is not None and not config.demonstration:
        released = fit_detector(out, config, data, out)
        refresh(out, config, data)
    if options.install:
        install(out, folder)
    return released


def _record(out: Path, start: Start, sides: Sides, options: Options) -> list[str]:
    """Record what a run starts with; return the commands that train its weights, even if another one resumes it."""
    path = out / "command.txt"
    # A command that failed before the first epoch did not start the run.
    if not (options.resume or (out / LAST).exists()):
        out.mkdir(parents=True, exist_ok=True)
        start.write_images(out, sides)
        path.write_text("".join(f"{each}\n" for each in (*start.commands, options.command)), encoding="utf-8")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else [options.command]
