"""One training run: from a recipe, its settings and a data set to checkpoints in a result folder."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Final, Literal

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar

from handlers.recipe import Recipe
from training import batches, networks
from training.classification import Classification
from training.errors import RunError
from training.journal import Journal
from training.prepared import Prepared
from training.settings import Settings

BEST: Final = "best.ckpt"
LAST: Final = "last.ckpt"
_PRECISION: Final[dict[str, Literal["32-true", "bf16-mixed"]]] = {"single": "32-true", "bf16": "bf16-mixed"}
_log = logging.getLogger(__name__)


def fit(
    recipe: Recipe, settings: Settings, prepared: Prepared, out: Path, *, resume: bool = False, progress: bool = True
) -> None:
    """Train to the last epoch; leaves `best.ckpt`, `last.ckpt`, `epochs.csv` and `training.yaml` in `out`.

    Parameters
    ----------
    resume
        Go on from the last complete epoch in `out`; the result is that of a run without the break.

    Raises
    ------
    RunError
        If `out` holds a run and `resume` is false, or the other way round, or other settings made it.
    """
    checkpoint = _open(out, settings, resume=resume)
    torch.manual_seed(settings.seed)
    network = networks.create(recipe.network, recipe.outputs)
    counts = torch.bincount(prepared.train.targets, minlength=len(recipe.labels))
    module = Classification(network, settings, counts)
    labels = len(recipe.labels)
    train = batches.training(
        prepared.train, prepared.spec, labels, settings.batch, settings.seed, settings.augmentation
    )
    validation = batches.plain(prepared.validation, prepared.spec, labels)
    with warnings.catch_warnings():
        # Batches are made in this process: the images are in memory and the cores are the network's.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # The result folder is the run's own; `_open` looked at what is in it.
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        # Lightning 2.6 on torch 2.13.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
        _trainer(settings, out, progress=progress).fit(module, train, validation, ckpt_path=checkpoint)


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
    if stored.read_text(encoding="utf-8") != text:
        raise RunError(f"{out}: was begun with other settings, see {stored}. Resume with those.")
    _log.info("resuming from %s", last)
    return last


def _trainer(settings: Settings, out: Path, *, progress: bool) -> lightning.Trainer:
    callbacks: list[Callback] = [
        EMAWeightAveraging(decay=settings.average),
        Journal(out / "epochs.csv"),
        _keep(BEST, out, monitor="score"),
        # Every epoch; Lightning's own `save_last` waits for the next best.
        _keep(LAST, out, monitor=None),
    ]
    if progress:
        callbacks.append(TQDMProgressBar())
    return lightning.Trainer(
        max_epochs=settings.epochs,
        accelerator="auto",
        devices=1,
        precision=_PRECISION[settings.precision],
        gradient_clip_val=1.0,
        callbacks=callbacks,
        default_root_dir=out,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
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
