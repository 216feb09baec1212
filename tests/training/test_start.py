import json
from dataclasses import replace
from pathlib import Path

import pytest
from lightning import LightningModule, Trainer

from handlers import recipe as recipes
from training import settings
from training.datasets import training_data
from training.datasets.training_data import Sides
from training.epoch_log import EpochLog
from training.errors import RunError
from training.start import IMAGES, starting_point
from training.train import Options, train

from .conftest import LENET, Trained

FROZEN = ("epochs=1", "learning_rate=1e-9", "average=0")


def _sides(run: Trained) -> Sides:
    recipe = recipes.load(run.out / "archive.yaml")
    return training_data.load_sides(recipe, settings.load(run.out / "training.yaml"), run.data)


def test_a_run_records_the_images_of_its_training_side(lenet: Trained) -> None:
    recorded = (lenet.out / IMAGES).read_text().split()
    assert recorded == sorted({example.sha256 for example in _sides(lenet).train})


def test_weights_of_the_same_split_are_a_starting_point(lenet: Trained) -> None:
    start = starting_point(lenet.out, _sides(lenet))
    assert start.weights == lenet.out / "weights.safetensors"


def test_weights_of_other_images_are_a_starting_point(lenet: Trained) -> None:
    others = tuple(replace(example, sha256=f"{index:064x}") for index, example in enumerate(_sides(lenet).validation))
    sides = Sides(others, others, "0" * 64)
    start = starting_point(lenet.out, sides)
    start.write_images(lenet.data.parent, sides)
    assert start.images is not None
    assert start.images | {example.sha256 for example in others} == set(
        (lenet.data.parent / IMAGES).read_text().split()
    )


def test_weights_trained_on_an_image_of_the_validation_side_are_rejected(lenet: Trained) -> None:
    sides = _sides(lenet)
    with pytest.raises(RunError, match=f"another split .* training images: {sides.train[0].name}"):
        starting_point(lenet.out, Sides((), (*sides.validation, sides.train[0]), "0" * 64))


def test_weights_of_another_split_without_recorded_images_are_rejected(lenet: Trained, tmp_path: Path) -> None:
    mine = lenet.copy(tmp_path)
    (mine.out / IMAGES).unlink()
    with pytest.raises(RunError, match=f"another split .* it has no {IMAGES}"):
        starting_point(mine.out, replace(_sides(lenet), sha256="0" * 64))


def test_a_run_from_weights_without_recorded_images_records_none_either(lenet: Trained, tmp_path: Path) -> None:
    (stale := tmp_path / IMAGES).write_text("0" * 64)  # of a run that failed before its first epoch
    start = starting_point(lenet.folder, _sides(lenet))
    start.write_images(tmp_path, _sides(lenet))
    assert start.images is None
    assert not stale.exists()


def test_a_resumed_run_has_the_images_and_commands_of_the_weights_that_it_started_with(
    lenet: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, out = lenet.copy(tmp_path), tmp_path / "further"
    (mine.out / IMAGES).write_text("0" * 64)
    overrides = (*LENET, "epochs=2", "learning_rate=1e-9", "average=0")
    options = Options(progress=False, tracker="none", command="second", start=mine.out, overrides=overrides)
    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_start", _interrupt_second_epoch)
        with pytest.raises(_InterruptedError):
            train(mine.folder, mine.data, out, options)
    train(mine.folder, mine.data, out, replace(options, start=None, resume=True, command="third"))
    assert json.loads((out / "metrics.json").read_text())["training"] == ["called from Python", "second"]
    images = {example.sha256 for example in _sides(lenet).train}
    assert set((out / IMAGES).read_text().split()) == {"0" * 64, *images}


class _InterruptedError(Exception):
    pass


def _interrupt_second_epoch(_: EpochLog, trainer: Trainer, __: LightningModule) -> None:
    if trainer.current_epoch == 1:
        raise _InterruptedError


def test_the_metrics_list_the_commands_of_all_runs(lenet: Trained, tmp_path: Path) -> None:
    mine = lenet.copy(tmp_path)
    metrics = mine.out / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"training": ["first", "second"]}))
    options = Options(
        progress=False, tracker="none", command="third", start=mine.out, overrides=(*LENET, *FROZEN), install=True
    )
    train(mine.folder, mine.data, tmp_path / "further", options)
    assert json.loads((mine.folder / "metrics.json").read_text())["training"] == ["first", "second", "third"]
    assert "Weights trained by `first`, then `second`, then `third`." in (mine.folder / "CARD.md").read_text()
