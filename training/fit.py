"""Fits a network: from recipe, settings and data to checkpoints in a result folder."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from torch.utils.data import DataLoader

from handlers.recipe import Recipe
from training import batches, lightning_modules, trackers, weights
from training.batches import Batch
from training.datasets.training_data import TrainingData
from training.epoch_log import EpochLog
from training.errors import RunError
from training.lightning_modules.base import Task
from training.settings import Settings, load
from training.trackers import Tracker

BEST: Final = "best.ckpt"
LAST: Final = "last.ckpt"
_PRECISION: Final[dict[str, Literal["32-true", "bf16-mixed"]]] = {"single": "32-true", "bf16": "bf16-mixed"}
_IGNORED_WARNINGS: Final = (
    # Batches are created in this process: the images are in memory, and the cores are busy with the network.
    ".*does not have many workers.*",
    # `_open` checks the content of the result folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # Lightning 2.6 on torch 2.13.
    ".*LeafSpec.* is deprecated",
    # Curves are written once per epoch.
    ".*number of training batches .* is smaller than the logging.*",
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Options of a run that are not settings of the training; see `training.train.Options`."""

    out: Path  # result folder
    resume: bool = False  # the result equals that of an uninterrupted run
    progress: bool = True
    tracker: Tracker = "tensorboard"
    online: bool = False
    callbacks: Sequence[Callback] = ()  # additional to those of a run
    start: Path | None = None  # initial weights, as written by `training.weights.save`; random by default


def fit(recipe: Recipe, settings: Settings, data: TrainingData, run: Run) -> float:
    """Train all epochs; writes `best.ckpt`, `last.ckpt`, `epochs.csv` and `training.yaml`; returns the best score.

    Raises `RunError` if `run.out` contains a run and `resume` is false, or no run of these settings and it is true.
    """
    checkpoint = _open(run.out, settings, resume=run.resume)
    torch.manual_seed(settings.seed)
    module = lightning_modules.create(recipe, settings, data)
    if run.start is not None:
        weights.load(module.network, run.start).train()
    labels = len(recipe.labels)
    sides = [batches.scaled(side, settings.scale) for side in (data.train, data.validation)]
    train = batches.training(sides[0], data.spec, labels, settings)
    validation = batches.plain(sides[1], data.spec, labels, settings.batch * 2)
    _check_scale(module, validation, settings)
    best = _checkpoint(BEST, run.out, monitor="score")
    trainer = _trainer(recipe.name, settings, run, [EpochLog(run.out / "epochs.csv", module.watched), best])
    with warnings.catch_warnings():
        for message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        trainer.fit(module, train, validation, ckpt_path=checkpoint)
    assert best.best_model_score is not None
    return float(best.best_model_score)


def _check_scale(module: Task, loader: DataLoader[Batch], settings: Settings) -> None:
    """Raise `RunError` if the network only takes images of the size of its input."""
    if settings.scale == 1:
        return
    module.eval()
    try:
        with torch.no_grad():
            module.network(next(iter(loader))[0][:2])
    except RuntimeError as error:
        raise RunError(
            f"scale: {settings.scale:g}; the network does not take images of that size ({error}). Omit the setting."
        ) from error
    finally:
        module.train()


def _open(out: Path, settings: Settings, *, resume: bool) -> Path | None:
    last, stored = out / LAST, out / "training.yaml"
    if not resume:
        if last.exists():
            raise RunError(f"{out}: already contains a run. Continue it with --resume, or choose another folder.")
        out.mkdir(parents=True, exist_ok=True)
        stored.write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        return None
    for name in (LAST, BEST):
        if not (out / name).exists():
            raise RunError(
                f"{out}: contains no {name} to resume from. Restore it, or start a new run in an empty folder, without "
                "--resume."
            )
    # The search space does not affect a run.
    previous, current = (each.model_copy(update={"tune": {}}) for each in (load(stored), settings))
    if previous != current:
        raise RunError(f"{out}: was started with other settings, see {stored}. Resume with the same settings.")
    _log.info("resuming from %s", last)
    return last


def _trainer(name: str, settings: Settings, run: Run, callbacks: list[Callback]) -> lightning.Trainer:
    callbacks = [
        EMAWeightAveraging(decay=settings.average),
        _MovedFolder(),
        *callbacks,
        # Saves every epoch; Lightning's own `save_last` only saves with the next best one.
        _checkpoint(LAST, run.out, monitor=None),
        *run.callbacks,
    ]
    if settings.patience is not None:
        callbacks.append(_Patience("score", mode="max", patience=settings.patience, check_on_train_epoch_end=True))
    if run.progress:
        callbacks.append(TQDMProgressBar())
    return lightning.Trainer(
        max_epochs=settings.epochs,
        accelerator="auto",
        devices=1,
        precision=_PRECISION[settings.precision],
        gradient_clip_val=settings.clip,
        callbacks=callbacks,
        default_root_dir=run.out,
        logger=trackers.logger(run.tracker, name, run.out, online=run.online),
        enable_model_summary=False,
        enable_progress_bar=run.progress,
        num_sanity_val_steps=0,
    )


def _checkpoint(name: str, out: Path, monitor: str | None) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=out,
        filename=Path(name).stem,
        monitor=monitor,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class _MovedFolder(Callback):
    """Resumes a run whose folder was moved or copied; Lightning would forget the best score, and write to the old one.

    A subclass of `ModelCheckpoint` would not find the state of runs that were started without it.
    """

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        del pl_module
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and (state := checkpoint["callbacks"].get(callback.state_key)):
                state |= _moved(state, str(callback.dirpath))


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the state of a `ModelCheckpoint` with the paths of another folder."""

    def path(text: str) -> str:
        return text and str(Path(folder) / Path(text).name)

    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    scores = {path(name): score for name, score in state["best_k_models"].items()}
    return {name: path(state[name]) for name in names} | {"dirpath": folder, "best_k_models": scores}


class _Patience(EarlyStopping):
    """Stops a resumed run that had already stopped early; Lightning would train one more epoch."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        trainer.should_stop = self.wait_count >= self.patience
