from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from handlers import recipe as recipes
from training import datasets, networks, weights
from training.errors import RunError
from training.evaluate import Options, evaluate, install_report
from training.recipe_files import write
from training.settings import Settings
from training.train import Options as TrainOptions
from training.train import train

from .conftest import LENET, Trained, make_archive, make_cifar, make_films

OWN = ("command", "part")
"""What of a report tells how it was made, not what was found."""


@pytest.fixture
def mine(lenet: Trained, tmp_path: Path) -> Trained:
    """Copy a trained archive: a test may change it."""
    return lenet.copy(tmp_path)


def _other_weights(path: Path) -> Path:
    torch.manual_seed(3)
    weights.save(networks.create("cifar10_lenet", 10).state_dict(), path)
    return path


def test_figures_of_an_evaluation_are_those_of_the_release(lenet: Trained, tmp_path: Path) -> None:
    released = json.loads((lenet.folder / "metrics.json").read_text())
    options = Options(overrides=LENET, command="radserve evaluate")
    found = evaluate(lenet.folder, lenet.data, tmp_path / "found", options)
    assert json.loads((tmp_path / "found" / "metrics.json").read_text()) == found
    assert found["command"] == "radserve evaluate"
    assert {key: value for key, value in found.items() if key not in OWN} == {
        key: value for key, value in released.items() if key not in OWN
    }
    assert "# cifar10-lenet" in (tmp_path / "found" / "CARD.md").read_text()
    assert {path.name for path in (tmp_path / "found" / "plots").iterdir()} == {
        path.name for path in (lenet.out / "plots").iterdir()
    }


def test_figures_of_a_yes_or_no_and_under_stress_are_those_of_the_release(quick: Settings, tmp_path: Path) -> None:
    folder, films = make_archive(tmp_path / "archives" / "chest-xray-cnn", quick), make_films(tmp_path / "films")
    options = TrainOptions(install=True, progress=False, tracker="none", overrides=("epochs=1",))
    train(folder, films, tmp_path / "run", options)
    released = json.loads((folder / "metrics.json").read_text())
    found = evaluate(folder, films, tmp_path / "found", Options())
    assert found["validation"] == released["validation"]
    assert found["stress"] == released["stress"]
    assert found["confusion"] == released["confusion"]


def test_a_data_set_that_was_never_seen_is_measured_whole(lenet: Trained, tmp_path: Path) -> None:
    other = make_cifar(tmp_path / "other", each=3)
    found = evaluate(lenet.folder, other, tmp_path / "found", Options(part="all"))
    assert found["part"] == "all"
    assert found["split"]["train"] is None
    assert found["split"]["validation"]["images"] == len(datasets.find("cifar10", other)) == 30
    assert found["epoch"] is not None


def test_other_weights_are_measured_as_such(lenet: Trained, tmp_path: Path) -> None:
    file = _other_weights(tmp_path / "other.safetensors")
    found = evaluate(lenet.folder, lenet.data, tmp_path / "found", Options(weights=file, overrides=LENET))
    assert found["validation"]["accuracy"]["value"] < 0.5
    assert found["epoch"] is None
    assert found["model"]["weights_sha256"] != recipes.load(lenet.folder / "archive.yaml").weights.sha256


def test_missing_weights_tell_where_they_come_from(mine: Trained, tmp_path: Path) -> None:
    (mine.folder / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights\.safetensors: missing\. .*radserve train cifar10-lenet --data DIR"):
        evaluate(mine.folder, mine.data, tmp_path / "found", Options(overrides=LENET))
    assert not (tmp_path / "found").exists()


def test_weights_with_another_checksum_are_refused(mine: Trained, tmp_path: Path) -> None:
    _other_weights(mine.folder / "weights.safetensors")
    with pytest.raises(RunError, match=r"key 'weights\.sha256' says"):
        evaluate(mine.folder, mine.data, tmp_path / "found", Options(overrides=LENET))


def test_a_recipe_that_knows_no_weights_does_not_take_those_that_lie_there(mine: Trained, tmp_path: Path) -> None:
    recipe = recipes.load(mine.folder / "archive.yaml")
    told = recipe.weights.model_copy(update={"sha256": None})
    write(recipe.model_copy(update={"weights": told}), mine.folder / "archive.yaml", "")
    with pytest.raises(RunError, match="says None"):
        evaluate(mine.folder, mine.data, tmp_path / "found", Options(overrides=LENET))


@pytest.mark.parametrize("override", ["seed=2", "validation=0.3"])
def test_another_split_than_that_of_the_training_is_refused(lenet: Trained, tmp_path: Path, override: str) -> None:
    """Its validation side would hold images that the weights were trained on."""
    with pytest.raises(RunError, match="another split"):
        evaluate(lenet.folder, lenet.data, tmp_path / "found", Options(overrides=(*LENET, override)))
    assert not (tmp_path / "found").exists()


def test_figures_of_the_own_weights_are_installed(mine: Trained, tmp_path: Path) -> None:
    found = evaluate(mine.folder, mine.data, tmp_path / "found", Options(overrides=LENET, command="radserve evaluate"))
    install_report(tmp_path / "found", mine.folder)
    assert json.loads((mine.folder / "metrics.json").read_text()) == found
    assert (mine.folder / "CARD.md").read_bytes() == (tmp_path / "found" / "CARD.md").read_bytes()


@pytest.mark.parametrize("case", ["other weights", "all"])
def test_other_figures_are_not_installed(mine: Trained, tmp_path: Path, case: str) -> None:
    before = {name: (mine.folder / name).read_bytes() for name in ("metrics.json", "CARD.md")}
    options = Options(part="all")
    if case == "other weights":
        options = Options(weights=_other_weights(tmp_path / "other.safetensors"), overrides=LENET)
    evaluate(mine.folder, mine.data, tmp_path / "found", options)
    with pytest.raises(RunError, match="no figure of"):
        install_report(tmp_path / "found", mine.folder)
    assert {name: (mine.folder / name).read_bytes() for name in before} == before


def test_a_data_set_without_one_of_the_labels_is_refused(lenet: Trained, tmp_path: Path) -> None:
    from training.errors import DataError

    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(lenet.data / "data_batch_1.bin", other / "data_batch_1.bin")
    records = (other / "data_batch_1.bin").read_bytes()
    (other / "data_batch_1.bin").write_bytes(records[: 3073 * 9])
    with pytest.raises(DataError, match="the recipe's labels are"):
        evaluate(lenet.folder, other, tmp_path / "found", Options(part="all"))
