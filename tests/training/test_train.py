import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from handlers import preprocess
from handlers import recipe as recipes
from handlers.formats import decode
from handlers.recipe import Recipe
from training import datasets, networks, settings, weights
from training.datasets import pixels, split, training_data
from training.errors import DataError, RunError
from training.evaluators import outputs
from training.fit import Run, fit
from training.lightning_modules.classification import Classification
from training.metrics import binary
from training.metrics.threshold_sweep import rank
from training.release import install
from training.train import Options, train

from .conftest import LENET, Trained, make_archive, make_films


def _options(**changes: object) -> Options:
    return Options(**{"progress": False, "tracker": "none", "command": "radserve train", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(quick: settings.Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished run, shared by the tests."""
    folder = tmp_path_factory.mktemp("finished")
    archive, films = make_archive(folder / "archive", quick), make_films(folder / "films")
    train(archive, films, folder / "run", _options())
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Copy of the finished run, for tests that change it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_writes_all_shipped_files(run: Path, archive: Path) -> None:
    released = recipes.load(run / "archive.yaml")
    before = recipes.load(archive / "archive.yaml")
    same = {"name", "version", "labels", "network", "licence", "sample", "title", "activation"}
    assert released.model_dump(include=same) == before.model_dump(include=same)
    report = json.loads((run / "metrics.json").read_text())
    assert report["command"] == "radserve train"
    assert report["split"]["train"]["images"] + report["split"]["validation"]["images"] == 40
    assert released.decision is not None
    assert (report["threshold"], report["temperature"]) == (
        released.decision.threshold,
        released.calibration.temperature,
    )
    assert report["model"]["weights_sha256"] == released.weights.sha256
    for metric in report["validation"].values():
        assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]


def test_metrics_equal_those_of_the_shipped_weights_in_the_serving_pipeline(run: Path, films: Path) -> None:
    released = recipes.load(run / "archive.yaml")
    config = settings.load(run / "training.yaml")
    network = weights.load(networks.create(released.network, released.outputs), run / released.weights.file)
    examples = datasets.find(config.data, films)
    validation = [examples[index] for index in split.by_group(examples, config.validation, config.seed).validation]
    images = [decode.decode(example.path.read_bytes()) for example in validation]
    values = torch.from_numpy(np.stack([preprocess.preprocess(image, released.input) for image in images]))
    with torch.inference_mode():
        logits = network(values)["logits"].numpy()
    probability = outputs.probabilities(logits, released.calibration.temperature)[:, 1]
    positive = np.array([example.label == "pneumonia" for example in validation])
    assert released.decision is not None
    report = json.loads((run / "metrics.json").read_text())
    counts = binary.confusion(positive, probability >= released.decision.threshold)
    assert report["confusion"] == vars(counts)
    assert counts.sensitivity >= config.sensitivity
    assert report["validation"]["auroc"]["value"] == pytest.approx(rank(positive, probability).sweep().auroc, abs=1e-4)


def test_pixel_statistics_are_those_of_the_training_side(run: Path, films: Path, recipe: Recipe) -> None:
    config = settings.load(run / "training.yaml")
    examples = datasets.find(config.data, films)
    train_side = split.by_group(examples, config.validation, config.seed).train
    images = pixels.read([examples[index] for index in train_side], recipe.input)
    mean, std = pixels.statistics(images, 3)
    spec = recipes.load(run / "archive.yaml").input
    assert (spec.mean, spec.std) == (mean, std)


def test_the_last_epoch_is_saved_even_if_it_is_not_the_best(run: Path) -> None:
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] == 2


def test_a_finished_run_is_not_trained_again(
    finished: Path, archive: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Classification, "training_step", step)
    train(archive, films, finished, _options(resume=True))


class _InterruptedError(Exception):
    pass


def test_a_resumed_run_equals_an_uninterrupted_one(
    run: Path, archive: Path, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        from training.epoch_log import EpochLog

        original = EpochLog.on_train_epoch_start

        def interrupt(self: EpochLog, trainer: object, pl_module: object) -> None:
            if trainer.current_epoch == 2:  # type: ignore[attr-defined]
                raise _InterruptedError
            original(self, trainer, pl_module)  # type: ignore[arg-type]

        patch.setattr(EpochLog, "on_train_epoch_start", interrupt)
        with pytest.raises(_InterruptedError):
            train(archive, films, broken, _options())
    assert not (broken / "weights.safetensors").exists()
    train(archive, films, broken, _options(resume=True))
    for name in ("weights.safetensors", "archive.yaml", "metrics.json", "CARD.md"):
        assert (broken / name).read_bytes() == (run / name).read_bytes(), name
    columns = [
        [line.rpartition(",")[0] for line in (folder / "epochs.csv").read_text().splitlines()]
        for folder in (run, broken)
    ]
    assert columns[0] == columns[1]


def test_an_existing_run_is_not_overwritten(run: Path, archive: Path, films: Path) -> None:
    with pytest.raises(RunError, match="--resume"):
        train(archive, films, run, _options())


def test_resuming_requires_a_checkpoint(archive: Path, films: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"contains no last\.ckpt"):
        train(archive, films, tmp_path / "empty", _options(resume=True))


def test_a_run_cannot_be_resumed_with_other_settings(run: Path, archive: Path, films: Path) -> None:
    with pytest.raises(RunError, match="other settings"):
        train(archive, films, run, _options(resume=True, overrides=["learning_rate=0.1"]))


def test_a_finished_run_can_be_released_again_and_installed(finished: Path, archive: Path, films: Path) -> None:
    run = finished
    before = (run / "metrics.json").read_bytes()
    train(archive, films, run, _options(resume=True, install=True))
    assert (run / "metrics.json").read_bytes() == before
    for name in ("weights.safetensors", "archive.yaml", "metrics.json", "CARD.md"):
        assert (archive / name).read_bytes() == (run / name).read_bytes()


def test_an_unreleased_run_cannot_be_installed(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has not been released"):
        install(tmp_path, archive)


def test_labels_that_are_not_in_the_recipe_are_rejected(films: Path, recipe: Recipe, quick: settings.Settings) -> None:
    other = recipe.model_copy(update={"labels": ("no", "yes")})
    with pytest.raises(DataError, match=r"\['normal', 'pneumonia'\].*\['no', 'yes'\]"):
        training_data.load(other, quick, films)


def test_training_learns(films: Path, recipe: Recipe, quick: settings.Settings, tmp_path: Path) -> None:
    data = training_data.load(recipe, quick, films)
    config = quick.model_copy(update={"epochs": 6, "augmentation": settings.Augmentation()})
    fit(recipe, config, data, Run(tmp_path / "run", progress=False, tracker="none"))
    state, _ = weights.from_checkpoint(tmp_path / "run" / "best.ckpt")
    network = networks.create(recipe.network, 2)
    network.load_state_dict(state)
    logits = outputs.logits(network, data.validation, data.spec, 2)
    assert rank(data.validation.targets.numpy() == 1, logits[:, 1] - logits[:, 0]).sweep().auroc > 0.95


FROZEN = ("epochs=1", "learning_rate=1e-9", "average=0")


def test_continued_training_starts_with_the_released_weights(lenet: Trained, tmp_path: Path) -> None:
    options = _options(start=lenet.out, overrides=(*LENET, *FROZEN))
    train(lenet.copy(tmp_path).folder, lenet.data, tmp_path / "further", options)
    report = json.loads((tmp_path / "further" / "metrics.json").read_text())
    assert report["validation"]["accuracy"]["value"] > 0.9


def test_continued_training_requires_the_metrics_of_the_weights(lenet: Trained, tmp_path: Path) -> None:
    mine = lenet.copy(tmp_path)
    (mine.out / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"metrics\.json: not found"):
        train(mine.folder, mine.data, tmp_path / "further", _options(start=mine.out, overrides=LENET))


def test_a_failed_command_is_not_recorded_for_the_next_run(lenet: Trained, tmp_path: Path) -> None:
    out = tmp_path / "further"
    options = _options(start=lenet.out, overrides=(*LENET, *FROZEN, "seed=2"), command="failed")
    with pytest.raises(RunError):
        train(lenet.folder, lenet.data, out, options)
    train(lenet.folder, lenet.data, out, _options(overrides=(*LENET, *FROZEN), command="started"))
    train(lenet.folder, lenet.data, out, _options(overrides=(*LENET, *FROZEN), command="resumed", resume=True))
    assert json.loads((out / "metrics.json").read_text())["command"] == "started"
