import csv
import shutil
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import settings
from training.datasets import training_data
from training.datasets.training_data import TrainingData
from training.errors import RunError
from training.fit import Run, fit
from training.settings import Settings

from .conftest import ROOT

LENET = ROOT / "archives" / "cifar10-lenet"
FROZEN = ("learning_rate=1e-12", "average=0", "batch=20", "validation=0.2", "patience=2", "epochs=9")
"""Overrides with which nothing is learnt, so the first epoch remains the best."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipes.load(LENET / "archive.yaml")


@pytest.fixture(scope="module")
def frozen() -> Settings:
    return settings.load(LENET / "training.yaml", FROZEN)


@pytest.fixture(scope="module")
def data(recipe: Recipe, frozen: Settings, photographs: Path) -> TrainingData:
    return training_data.load(recipe, frozen, photographs)


def _epochs(out: Path) -> list[str]:
    with (out / "epochs.csv").open(newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_a_run_that_stopped_early_is_not_continued(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    best = fit(recipe, frozen, data, Run(tmp_path, progress=False, tracker="none"))
    assert _epochs(tmp_path) == ["0", "1", "2"]
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    again = fit(recipe, frozen, data, Run(tmp_path, resume=True, progress=False, tracker="none"))
    assert again == best
    assert _epochs(tmp_path) == ["0", "1", "2"]
    after = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[key], value) for key, value in kept.items())


class _Interruption(Callback):
    """Ends a run at the start of its second epoch."""

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        if trainer.current_epoch == 1:
            raise RuntimeError("interrupted")


def test_a_complete_run_is_resumed_in_another_folder(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    best = fit(recipe, frozen, data, Run(tmp_path / "old", progress=False, tracker="none"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert fit(recipe, frozen, data, Run(tmp_path / "new", resume=True, progress=False, tracker="none")) == best


def test_a_run_that_is_continued_in_a_copy_keeps_its_best_epoch_and_leaves_the_original(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    run = Run(tmp_path / "old", progress=False, tracker="none", callbacks=[_Interruption()])
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(recipe, frozen, data, run)
    copy = Path(shutil.copytree(tmp_path / "old", tmp_path / "new"))
    fit(recipe, frozen, data, Run(copy, resume=True, progress=False, tracker="none"))
    assert _epochs(copy) == ["0", "1", "2"]
    assert torch.load(copy / "best.ckpt", weights_only=True)["epoch"] == 0
    assert {path.name for path in (tmp_path / "old").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


def test_a_run_without_its_best_checkpoint_is_not_resumed(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    fit(recipe, frozen, data, Run(tmp_path, progress=False, tracker="none"))
    (tmp_path / "best.ckpt").unlink()
    with pytest.raises(RunError, match=r"contains no best\.ckpt"):
        fit(recipe, frozen, data, Run(tmp_path, resume=True, progress=False, tracker="none"))


def test_without_patience_a_run_has_all_epochs(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    config = frozen.model_copy(update={"patience": None, "epochs": 4})
    fit(recipe, config, data, Run(tmp_path, progress=False, tracker="none"))
    assert _epochs(tmp_path) == ["0", "1", "2", "3"]


def test_the_averaged_weights_are_validated(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    """With a decay near 1, the average does not follow the network."""
    slow = frozen.model_copy(update={"learning_rate": 3e-3, "average": 0.999999, "epochs": 2, "patience": None})
    fit(recipe, slow, data, Run(tmp_path / "slow", progress=False, tracker="none"))
    fast = slow.model_copy(update={"average": 0.0})
    fit(recipe, fast, data, Run(tmp_path / "fast", progress=False, tracker="none"))
    losses = {}
    for name in ("slow", "fast"):
        with (tmp_path / name / "epochs.csv").open(newline="") as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses["slow"][1] > 2.2
    assert losses["fast"][1] < losses["slow"][1] - 0.2


def test_a_scale_that_the_network_does_not_take_is_named(
    recipe: Recipe, frozen: Settings, data: TrainingData, tmp_path: Path
) -> None:
    config = frozen.model_copy(update={"scale": 0.5})
    with pytest.raises(RunError, match=r"scale: 0.5; the network does not take images of that size"):
        fit(recipe, config, data, Run(tmp_path, progress=False, tracker="none"))
