import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from handlers import recipe as recipes
from handlers.recipe import Recipe
from training import datasets, networks, weights
from training.batches import Images
from training.errors import RunError
from training.evaluate import Options, _stress, evaluate, install_report, update_reference
from training.recipe_files import write
from training.settings import Settings
from training.train import Options as TrainOptions
from training.train import train

from .conftest import LENET, Trained, make_archive, make_cifar, make_films

OWN = ("command", "part")
"""Keys of a report that depend on the command."""


@pytest.fixture
def mine(lenet: Trained, tmp_path: Path) -> Trained:
    """Copy of a trained model, for tests that change it."""
    return lenet.copy(tmp_path)


def _other_weights(path: Path) -> Path:
    torch.manual_seed(3)
    weights.save(networks.create("cifar10_lenet", 10).state_dict(), path)
    return path


def test_an_evaluation_gives_the_metrics_of_the_release(lenet: Trained, tmp_path: Path) -> None:
    released = json.loads((lenet.folder / "metrics.json").read_text())
    options = Options(overrides=LENET, command="radserve evaluate")
    result = evaluate(lenet.folder, lenet.data, tmp_path / "result", options)
    assert json.loads((tmp_path / "result" / "metrics.json").read_text()) == result
    assert result["command"] == "radserve evaluate"
    shares = result["reference"]["shares"]
    assert set(shares) == {"label", "probability"}
    assert all(sum(values.values()) == pytest.approx(1, abs=1e-3) for values in shares.values())
    assert {key: value for key, value in result.items() if key not in OWN} == {
        key: value for key, value in released.items() if key not in OWN
    }
    assert "# cifar10-lenet" in (tmp_path / "result" / "CARD.md").read_text()
    assert {path.name for path in (tmp_path / "result" / "plots").iterdir()} == {
        path.name for path in (lenet.out / "plots").iterdir()
    }


def test_an_evaluation_gives_the_robustness_of_the_release(quick: Settings, tmp_path: Path) -> None:
    folder, films = make_archive(tmp_path / "archives" / "chest-xray-cnn", quick), make_films(tmp_path / "films")
    options = TrainOptions(install=True, progress=False, tracker="none", overrides=("epochs=1",))
    train(folder, films, tmp_path / "run", options)
    released = json.loads((folder / "metrics.json").read_text())
    result = evaluate(folder, films, tmp_path / "result", Options())
    assert result["validation"] == released["validation"]
    assert result["stress"] == released["stress"]
    assert result["shortcuts"] == released["shortcuts"]
    assert result["confusion"] == released["confusion"]


def test_the_stress_test_applies_the_bias_of_the_recipe(recipe: Recipe) -> None:
    network = nn.Sequential()
    network.forward = lambda values: {"logits": torch.zeros(len(values), 2)}  # type: ignore[method-assign]
    pixels = torch.randint(0, 255, (8, 1, 64, 64), dtype=torch.uint8)
    images = Images(pixels, torch.arange(8) % 2, tuple("abcdefgh"))
    biased = recipe.model_copy(update={"calibration": recipe.calibration.model_copy(update={"bias": 100.0})})
    (sensitivity,) = {item["sensitivity"] for item in _stress(biased, network, images)["stress"].values()}
    assert sensitivity == 1


def test_all_of_another_data_set_can_be_measured(lenet: Trained, tmp_path: Path) -> None:
    other = make_cifar(tmp_path / "other", each=3)
    result = evaluate(lenet.folder, other, tmp_path / "result", Options(part="all"))
    assert result["part"] == "all"
    assert result["split"]["train"] is None
    assert "reference" not in result, "the reference is that of the validation images"
    assert result["split"]["validation"]["images"] == len(datasets.find("cifar10", other)) == 30
    assert result["epoch"] is not None


def test_other_weights_can_be_measured(lenet: Trained, tmp_path: Path) -> None:
    file = _other_weights(tmp_path / "other.safetensors")
    result = evaluate(lenet.folder, lenet.data, tmp_path / "result", Options(weights=file, overrides=LENET))
    assert result["validation"]["accuracy"]["value"] < 0.5
    assert result["epoch"] is None
    assert result["model"]["weights_sha256"] != recipes.load(lenet.folder / "archive.yaml").weights.sha256


def test_missing_weights_are_reported_with_a_hint(mine: Trained, tmp_path: Path) -> None:
    (mine.folder / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights\.safetensors: not found\. .*radserve train cifar10-lenet --data DIR"):
        evaluate(mine.folder, mine.data, tmp_path / "result", Options(overrides=LENET))
    assert not (tmp_path / "result").exists()


def test_weights_are_rejected_if_the_recipe_has_no_checksum(mine: Trained, tmp_path: Path) -> None:
    recipe = recipes.load(mine.folder / "archive.yaml")
    unknown = recipe.weights.model_copy(update={"sha256": None})
    write(recipe.model_copy(update={"weights": unknown}), mine.folder / "archive.yaml", "")
    with pytest.raises(RunError, match="is None"):
        evaluate(mine.folder, mine.data, tmp_path / "result", Options(overrides=LENET))


@pytest.mark.parametrize("override", ["seed=2", "validation=0.3"])
def test_another_split_than_that_of_the_training_is_rejected(lenet: Trained, tmp_path: Path, override: str) -> None:
    """Its validation side would contain training images."""
    with pytest.raises(RunError, match="another split"):
        evaluate(lenet.folder, lenet.data, tmp_path / "result", Options(overrides=(*LENET, override)))
    assert not (tmp_path / "result").exists()


def test_metrics_of_the_models_weights_can_be_installed(mine: Trained, tmp_path: Path) -> None:
    result = evaluate(
        mine.folder, mine.data, tmp_path / "result", Options(overrides=LENET, command="radserve evaluate")
    )
    install_report(tmp_path / "result", mine.folder)
    assert json.loads((mine.folder / "metrics.json").read_text()) == result
    assert (mine.folder / "CARD.md").read_bytes() == (tmp_path / "result" / "CARD.md").read_bytes()
    assert result["training"] == json.loads((mine.out / "metrics.json").read_text())["training"]


def test_the_reference_alone_can_be_updated(mine: Trained, tmp_path: Path) -> None:
    path = mine.folder / "metrics.json"
    released = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in released.items() if key != "reference"}))
    update_reference(mine.folder, mine.data, tmp_path / "result", LENET)
    install_report(tmp_path / "result", mine.folder)
    assert json.loads(path.read_text()) == released, "also the command, which trained the weights"
    path.unlink()
    with pytest.raises(RunError, match=r"no metrics\.json of its weights"):
        update_reference(mine.folder, mine.data, tmp_path / "result", LENET)


@pytest.mark.parametrize("case", ["other weights", "all"])
def test_other_metrics_cannot_be_installed(mine: Trained, tmp_path: Path, case: str) -> None:
    before = {name: (mine.folder / name).read_bytes() for name in ("metrics.json", "CARD.md")}
    options = Options(part="all")
    if case == "other weights":
        options = Options(weights=_other_weights(tmp_path / "other.safetensors"), overrides=LENET)
    evaluate(mine.folder, mine.data, tmp_path / "result", options)
    with pytest.raises(RunError, match="cannot be installed"):
        install_report(tmp_path / "result", mine.folder)
    assert {name: (mine.folder / name).read_bytes() for name in before} == before


def test_a_data_set_without_one_of_the_labels_is_rejected(lenet: Trained, tmp_path: Path) -> None:
    from training.errors import DataError

    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(lenet.data / "data_batch_1.bin", other / "data_batch_1.bin")
    records = (other / "data_batch_1.bin").read_bytes()
    (other / "data_batch_1.bin").write_bytes(records[: 3073 * 9])
    with pytest.raises(DataError, match="the recipe requires"):
        evaluate(lenet.folder, other, tmp_path / "result", Options(part="all"))
