"""Searches for better settings with Optuna: `radserve tune`; every trial is a training run.

Several workers can share a study. A worker records a heartbeat; a trial without one fails, and another replaces it.
"""

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightning
import optuna
import stamina
import yaml
from lightning.pytorch.callbacks import Callback
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.datasets import training_data
from training.datasets.training_data import TrainingData
from training.errors import RunError, SettingsError
from training.fit import Run, fit
from training.settings import Settings, Space
from training.trackers import Tracker

BEST: Final = "training.yaml"
_WARM_UP: Final = 3  # epochs before a trial may be pruned, and trials before the first pruning
_ATTEMPTS: Final = 6
_HEARTBEAT: Final = 30  # seconds
_GRACE: Final = 180  # seconds without a heartbeat after which a trial fails
_POLL: Final = 5.0  # seconds between looks at the trials of other workers
_WITHOUT_HEARTBEAT: Final = text(
    "SELECT trial_id FROM trials JOIN studies USING (study_id) WHERE study_name = :study AND state = 'RUNNING' "
    "AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)"
)
_FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Options of a search that are not in `training.yaml`."""

    trials: int = 20  # number of finished trials of the study, those of all workers together
    storage: str | None = None  # Optuna storage URL; workers with the same URL share a study
    overrides: Sequence[str] = ()  # `key=value` that replace settings of `training.yaml`
    install: bool = False  # copy the best settings into the model's folder
    tracker: Tracker = "tensorboard"
    online: bool = False


def tune(folder: Path, data: Path, out: Path, options: Options) -> optuna.Study:
    """Run trials over the key `tune` of `training.yaml`; writes the best settings, and plots, to `out`."""
    recipe = recipes.load(folder / "archive.yaml")
    config = settings.load(folder / BEST, options.overrides)
    if not config.tune:
        raise SettingsError(f"{folder / BEST}: has no key 'tune'. Add the keys to search and their ranges.")
    out.mkdir(parents=True, exist_ok=True)
    storage = _storage(options.storage or f"sqlite:///{out.resolve() / 'study.db'}")
    study = _study(recipe.name, config, storage, options)
    loaded = training_data.load(recipe, config, data)
    _search(study, storage, lambda trial: _trial(trial, recipe, config, loaded, out, options), options.trials)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        _log.info("no trial was completed; run more trials")
        return study
    _log.info("best of %d trials: score %.4f with %s", _count(study, _FINISHED), study.best_value, study.best_params)
    _write(config, study.best_params, out / BEST)
    if options.install:
        shutil.copyfile(out / BEST, folder / BEST)
    draw(study, out / "plots")
    return study


def draw(study: optuna.Study, folder: Path) -> None:
    """Draw the plots of a study for which there are enough trials, as interactive HTML and as PNG."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    extra: dict[str, dict[str, Any]] = {"param_importances": {"evaluator": PedAnovaImportanceEvaluator()}}
    for name in ("optimization_history", "intermediate_values", "parallel_coordinate", "slice", "param_importances"):
        try:
            with warnings.catch_warnings():
                # Optuna marks plots with matplotlib, and the evaluator, as experimental.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                # A single trial, or equal ones.
                warnings.filterwarnings("ignore", message=".*identical low and high .lims")
                warnings.filterwarnings("ignore", message="The number of trials is too small")
                interactive = getattr(optuna.visualization, f"plot_{name}")(study, **extra.get(name, {}))
                axes = getattr(optuna.visualization.matplotlib, f"plot_{name}")(study, **extra.get(name, {}))
        except (ValueError, RuntimeError) as error:
            _log.info("skipping plot %s: %s", name, error)
            continue
        interactive.write_html(folder / f"{name}.html", include_plotlyjs="directory")
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        plt.close(figure)


class _SurplusError(Exception):
    """Other workers took the last trials at the same moment."""


def _search(study: optuna.Study, storage: RDBStorage, objective: Callable[[optuna.Trial], float], total: int) -> None:
    """Run trials until the study has `total` finished ones; wait for those of other workers, which may fail."""

    def limited(trial: optuna.Trial) -> float:
        # Numbers are unique, so that workers that start trials at once agree on who is too late.
        earlier = study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.RUNNING))
        if sum(each.number < trial.number for each in earlier) >= total:
            raise _SurplusError
        return objective(trial)

    waiting = False
    while _count(study, _FINISHED) < total:
        if _count(study, (*_FINISHED, TrialState.RUNNING)) < total:
            study.optimize(limited, n_trials=1, catch=(_SurplusError,))
            waiting = False
        else:
            if not waiting:
                _log.info("waiting for %d trials of other workers", _count(study, (TrialState.RUNNING,)))
            waiting = True
            time.sleep(_POLL)
        _fail_stale(study, storage)


def _fail_stale(study: optuna.Study, storage: RDBStorage) -> None:
    """Fail the trials of dead workers.

    Optuna never fails a trial without any heartbeat, whose worker was killed before the first one, or is of a release
    without heartbeats. It gets one here, after which the grace period begins.
    """
    with storage.engine.connect() as connection:
        trials = connection.scalars(_WITHOUT_HEARTBEAT, {"study": study.study_name}).all()
    for trial in trials:
        storage.record_heartbeat(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        fail_stale_trials(study)


def _log_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    del study
    _log.warning("trial %d: failed, because its worker has died", trial.number)


def _count(study: optuna.Study, states: Sequence[TrialState]) -> int:
    return len(study.get_trials(deepcopy=False, states=tuple(states)))


def _study(name: str, config: Settings, storage: RDBStorage, options: Options) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a warning is a failed trial, whose error is raised
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM_UP, n_warmup_steps=_WARM_UP),
    )
    # Workers with the same seed would try the same settings. A study of one process is reproducible.
    seed = None if options.storage else config.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def _storage(url: str) -> RDBStorage:
    """Open a storage; retries, because creating the tables fails in all but one of several concurrent workers."""
    retrying = stamina.RetryingCaller(attempts=_ATTEMPTS, wait_initial=0.5).on(SQLAlchemyError)
    try:
        with warnings.catch_warnings():
            # Optuna marks heartbeats as experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return retrying(
                RDBStorage,
                url,
                heartbeat_interval=_HEARTBEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=_log_stale,
            )
    except (ImportError, SQLAlchemyError) as error:  # the driver of a database may be missing
        raise RunError(f"Cannot open the storage of the study: {error}") from error


def _trial(
    trial: optuna.Trial, recipe: Recipe, config: Settings, data: TrainingData, out: Path, options: Options
) -> float:
    values = {key: _suggest(trial, key, space) for key, space in config.tune.items()}
    run = Run(
        out / f"trial-{trial.number:04d}",
        progress=False,
        tracker=options.tracker,
        online=options.online,
        callbacks=[_Pruning(trial)],
    )
    _log.info("trial %d: %s", trial.number, values)
    score = fit(recipe, settings.change(config, values), data, run)
    if not math.isfinite(score):
        # A failed trial would be replaced, again and again, and the sampler would not learn from it.
        _log.warning("trial %d: diverged, no epoch has a score; pruned", trial.number)
        raise optuna.TrialPruned("the training diverged")
    return score


def _suggest(trial: optuna.Trial, key: str, space: Space) -> Any:
    if space.choices is not None:
        return trial.suggest_categorical(key, list(space.choices))
    assert space.low is not None
    assert space.high is not None
    if space.whole:
        return trial.suggest_int(key, round(space.low), round(space.high), log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _write(config: Settings, best: Mapping[str, Any], path: Path) -> None:
    values = settings.change(config, best).model_dump(mode="json", exclude_unset=True)
    comment = "# Best settings of a search, written by `radserve tune`.\n"
    path.write_text(comment + yaml.safe_dump(values, sort_keys=False, default_flow_style=None), encoding="utf-8")


class _Pruning(Callback):
    """Reports the score of each epoch to Optuna, and stops a trial whose score is below the median."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        self._trial.report(float(trainer.callback_metrics["score"]), trainer.current_epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {trainer.current_epoch + 1}")
