"""Search for better settings with Optuna; every trial is a training run of its own."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning
import optuna
import yaml
from lightning.pytorch.callbacks import Callback
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.datasets.prepared import Prepared, prepare
from training.errors import RunError, SettingsError
from training.fit import Run, fit
from training.settings import Settings, Space
from training.trackers import Tracker

BEST: Final = "training.yaml"
_WARM_UP: Final = 3
"""Epochs before a trial may be pruned, and trials before any is."""
_ATTEMPTS: Final = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to search, next to what `training.yaml` says.

    Attributes
    ----------
    trials
        Of this process.
    storage
        Optuna's storage URL; workers that name the same one share a study.
    overrides
        `key=value` over `training.yaml`.
    install
        Put the best settings into the archive's folder.
    """

    trials: int = 20
    storage: str | None = None
    overrides: Sequence[str] = ()
    install: bool = False
    tracker: Tracker = "tensorboard"
    online: bool = False


def tune(folder: Path, data: Path, out: Path, options: Options) -> optuna.Study:
    """Run trials and leave `training.yaml` with the best settings, and plots, in `out`.

    Parameters
    ----------
    folder
        Holds `archive.yaml` and `training.yaml`, whose key `tune` is the search space.

    Raises
    ------
    RadServeError
        Naming what is wrong with recipe, settings or data.
    """
    recipe = recipes.load(folder / "archive.yaml")
    chosen = settings.load(folder / BEST, options.overrides)
    if not chosen.tune:
        raise SettingsError(f"{folder / BEST}: has no key 'tune'; name there what to search, and in which range.")
    out.mkdir(parents=True, exist_ok=True)
    study = _study(recipe.name, chosen, out, options)
    prepared = prepare(recipe, chosen, data)
    study.optimize(lambda trial: _trial(trial, recipe, chosen, prepared, out, options), n_trials=options.trials)
    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not finished:
        _log.info("no trial was finished; run more")
        return study
    _log.info("best of %d trials: score %.4f with %s", len(study.trials), study.best_value, study.best_params)
    _write(chosen, study.best_params, out / BEST)
    if options.install:
        shutil.copyfile(out / BEST, folder / BEST)
    draw(study, out / "plots")
    return study


def draw(study: optuna.Study, folder: Path) -> None:
    """Draw a study as interactive HTML and as PNG, each plot that it has enough trials for."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    importance = PedAnovaImportanceEvaluator()
    extra: dict[str, dict[str, Any]] = {"param_importances": {"evaluator": importance}}
    for name in ("optimization_history", "intermediate_values", "parallel_coordinate", "slice", "param_importances"):
        try:
            with warnings.catch_warnings():
                # Plots with matplotlib and the evaluator are marked experimental.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # Of a single trial, or of equal ones.
                warnings.filterwarnings("ignore", message=".*identical low and high .lims")
                warnings.filterwarnings("ignore", message="The number of trials is too small")
                interactive = getattr(optuna.visualization, f"plot_{name}")(study, **extra.get(name, {}))
                axes = getattr(optuna.visualization.matplotlib, f"plot_{name}")(study, **extra.get(name, {}))
        except (ValueError, RuntimeError) as error:
            _log.info("no plot %s yet: %s", name, error)
            continue
        interactive.write_html(folder / f"{name}.html", include_plotlyjs="directory")
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        plt.close(figure)


def _study(name: str, chosen: Settings, out: Path, options: Options) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=_storage(options.storage or f"sqlite:///{out.resolve() / 'study.db'}"),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM_UP, n_warmup_steps=_WARM_UP),
    )
    # Workers with one seed would all try the same; alone, a study can be repeated.
    seed = None if options.storage else chosen.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def _storage(url: str) -> BaseStorage:
    """Open a storage. Of workers that begin it together one makes the tables; the others fail, and find them then."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            return optuna.storages.get_storage(url)
        except SQLAlchemyError as error:
            if not left:
                raise RunError(f"the study's storage cannot be opened: {error}") from error
            time.sleep(0.5)
    raise AssertionError("unreachable")


def _trial(
    trial: optuna.Trial, recipe: Recipe, chosen: Settings, prepared: Prepared, out: Path, options: Options
) -> float:
    found = {key: _suggest(trial, key, space) for key, space in chosen.tune.items()}
    tried = settings.change(chosen, found)
    run = Run(
        out / f"trial-{trial.number:04d}",
        progress=False,
        tracker=options.tracker,
        online=options.online,
        callbacks=[_Pruning(trial)],
    )
    _log.info("trial %d: %s", trial.number, found)
    return fit(recipe, tried, prepared, run)


def _suggest(trial: optuna.Trial, key: str, space: Space) -> Any:
    if space.choices is not None:
        return trial.suggest_categorical(key, list(space.choices))
    assert space.low is not None
    assert space.high is not None
    if space.whole:
        return trial.suggest_int(key, round(space.low), round(space.high), log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _write(chosen: Settings, found: Mapping[str, Any], path: Path) -> None:
    values = settings.change(chosen, found).model_dump(mode="json", exclude_unset=True)
    comment = "# The best settings of a search, written by `radserve tune`.\n"
    path.write_text(comment + yaml.safe_dump(values, sort_keys=False, default_flow_style=None), encoding="utf-8")


class _Pruning(Callback):
    """Tell Optuna each epoch's score, and end a trial that lies below the median of those before it."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        self._trial.report(float(trainer.callback_metrics["score"]), trainer.current_epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {trainer.current_epoch + 1}")
