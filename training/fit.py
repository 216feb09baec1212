"""One training run: from a recipe, its settings and a data set to checkpoints in a result folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    TQDMProgressBar,
)

from handlers.recipe import Recipe
from training import trackers, weights
from training.batches import DataModule
from training.datasets.prepared import Prepared
from training.epoch_log import Journal
from training.errors import RunError
from training.lightning_modules import factory as tasks
from training.settings import Settings, load
from training.trackers import Tracker

BEST: Final = "best.ckpt"
LAST: Final = "last.ckpt"
_PRECISION: Final[dict[str, Literal["32-true", "bf16-mixed"]]] = {"single": "32-true", "bf16": "bf16-mixed"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """How a run is carried out, next to what its settings say.

    Attributes
    ----------
    out
        Result folder.
    resume
        Go on from the last complete epoch in `out`; the result is that of a run without the break.
    progress
        Show a progress bar.
    tracker, online
        See `training.track.logger`.
    callbacks
        More of Lightning's callbacks.
    start
        Weights to begin with instead of random ones, as `training.weights.save` writes them.
    """

    out: Path
    resume: bool = False
    progress: bool = True
    tracker: Tracker = "tensorboard"
    online: bool = False
    callbacks: Sequence[Callback] = ()
    start: Path | None = None


def fit(recipe: Recipe, settings: Settings, prepared: Prepared, run: Run) -> float:
    """Train to the last epoch; leaves `best.ckpt`, `last.ckpt`, `epochs.csv` and `training.yaml` in `run.out`.

    Returns
    -------
    Score of the best epoch.

    Raises
    ------
    RunError
        If `run.out` holds a run and `resume` is false, or the other way round, or other settings made it.
    """
    checkpoint = _open(run.out, settings, resume=run.resume)
    torch.manual_seed(settings.seed)
    module = tasks.create(recipe, settings, prepared)
    if run.start is not None:
        weights.load(module.network, run.start).train()
    data = DataModule(prepared.train, prepared.validation, prepared.spec, len(recipe.labels), settings)
    best = _keep(BEST, run.out, monitor="score")
    trainer = _trainer(recipe.name, settings, run, [Journal(run.out / "epochs.csv", module.watched), best])
    with warnings.catch_warnings():
        # Batches are made in this process: the images are in memory and the cores are the network's.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # The result folder is the run's own; `_open` looked at what is in it.
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        # Lightning 2.6 on torch 2.13.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
        # Curves are written once an epoch.
        warnings.filterwarnings("ignore", message=".*number of training batches .* is smaller than the logging.*")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    assert best.best_model_score is not None
    return float(best.best_model_score)


def _open(out: Path, settings: Settings, *, resume: bool) -> Path | None:
    last, stored = out / LAST, out / "training.yaml"
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
    if not resume:
        if last.exists():
            raise RunError(f"{out}: holds a run already. Give --resume to go on with it, or another folder.")
        out.mkdir(parents=True, exist_ok=True)
        stored.write_text(text, encoding="utf-8")
        return None
    if not last.exists():
        raise RunError(f"{out}: holds no {LAST} to resume from. Leave --resume away to start anew.")
    if not _same(load(stored), settings):
        raise RunError(f"{out}: was begun with other settings, see {stored}. Resume with those.")
    _log.info("resuming from %s", last)
    return last


def _same(one: Settings, other: Settings) -> bool:
    """Whether both train alike; what a search may choose is no part of a run."""
    return one.model_copy(update={"tune": {}}) == other.model_copy(update={"tune": {}})


def _trainer(name: str, settings: Settings, run: Run, callbacks: list[Callback]) -> lightning.Trainer:
    callbacks = [
        EMAWeightAveraging(decay=settings.average),
        *callbacks,
        # Every epoch; Lightning's own `save_last` waits for the next best.
        _keep(LAST, run.out, monitor=None),
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


def _keep(name: str, out: Path, monitor: str | None) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=out,
        filename=Path(name).stem,
        monitor=monitor,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class _Patience(EarlyStopping):
    """Ends a run, and the same run when it is resumed after that; Lightning would train an epoch more."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        trainer.should_stop = self.wait_count >= self.patience
