"""Imported weights serve as the original system ran them, and nothing claims more of them than is known."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from handlers import recipe as recipes
from handlers.errors import RadServeError
from handlers.program import Program
from radserve.build import builder, import_weights
from radserve.build.model_store import UNTRAINED
from radserve.cli.main import app
from radserve.errors import WeightsImportError
from tests.conftest import ROOT
from training import networks

ROUND_TRIPS = [
    "brain-tumor-attention",
    "brain-tumor-cnn-attention",
    "chest-xray-cnn",
    "cifar10-lenet",
    "cifar10-vgg11",
    "glioma-unet",
]


def copy(name: str, archives: Path) -> Path:
    return Path(shutil.copytree(ROOT / "archives" / name, archives / name))


def trained_elsewhere(name: str, path: Path) -> torch.nn.Module:
    """Save a checkpoint as the original system's training does; its numbers are exact in half precision."""
    recipe = recipes.load(ROOT / "archives" / name / "archive.yaml")
    torch.manual_seed(7)
    network = networks.create(recipe.network, recipe.outputs).half().float()
    wrapped = str(getattr(network, "WRAPPED", ""))
    state = {f"module.{key.removeprefix(wrapped)}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 20, "state_dict": state}, path)
    return network.eval()


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_an_imported_checkpoint_serves_the_logits_of_its_network(name: str, tmp_path: Path) -> None:
    network = trained_elsewhere(name, tmp_path / "made.pth")
    copy(name, tmp_path / "archives")
    import_weights.install(tmp_path / "archives" / name, tmp_path / "made.pth", original=False)
    (source,) = builder.find(tmp_path / "archives", [name])
    entry = builder.build(source, tmp_path / "store")
    with zipfile.ZipFile(tmp_path / "store" / entry.file) as packed:
        packed.extract("program.pt2", tmp_path)
    spec = source.recipe.input
    images = torch.randn(2, spec.channels, spec.height, spec.width)
    with torch.inference_mode():
        wanted, found = network(images)["logits"], Program(tmp_path / "program.pt2")(images)["logits"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_nothing_of_the_weights_before_is_claimed_of_the_imported_ones(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    before = recipes.load(folder / "archive.yaml")
    trained_elsewhere("chest-xray-cnn", tmp_path / "made.pth")
    made = import_weights.install(folder, tmp_path / "made.pth", original=False).recipe
    assert made == recipes.load(folder / "archive.yaml")
    assert made.decision is not None
    assert (made.decision.threshold, made.decision.chosen) == (0.5, "Not chosen: imported weights.")
    assert (made.calibration.temperature, made.calibration.fitted) == (1.0, "Not fitted: imported weights.")
    assert "made.pth" in made.trained_on
    assert made.version == "2.0.0", "another model does not answer under the version of the shipped one"
    assert made.weights.sha256 != before.weights.sha256
    assert not (folder / "metrics.json").exists()
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "0.99" not in card
    assert "Nothing has been" in card


def test_the_original_preprocessing_is_taken_on_request(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    trained_elsewhere("chest-xray-cnn", tmp_path / "made.pth")
    made = import_weights.install(folder, tmp_path / "made.pth", original=True).recipe
    assert made.input.std == (0.0564721,) * 3
    assert made.input.height == 112
    assert made.decision is not None
    assert made.decision.chosen == "The larger of the two outputs, as in the original system."


def test_a_recipe_without_original_values_says_so_and_stays_as_it_was(tmp_path: Path) -> None:
    folder = copy("cifar10-lenet", tmp_path)
    (folder / "original.yaml").unlink(missing_ok=True)
    before = contents(folder)
    trained_elsewhere("cifar10-lenet", tmp_path / "made.pth")
    with pytest.raises(WeightsImportError, match=r"original\.yaml: there is none"):
        import_weights.install(folder, tmp_path / "made.pth", original=True)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_checkpoint_of_another_network_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    before = contents(folder)
    trained_elsewhere("cifar10-lenet", tmp_path / "made.pth")
    with pytest.raises(WeightsImportError, match=r"missing conv_01\.weight .* extra conv1\.weight"):
        import_weights.install(folder, tmp_path / "made.pth", original=False)
    with pytest.raises(WeightsImportError, match="no such checkpoint"):
        import_weights.install(folder, tmp_path / "none.pth", original=False)
    assert contents(folder) == before


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["import", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit | RadServeError):
        raise done.exception
    return done.exit_code, done.output


def test_the_command_writes_a_file_of_weights_in_half_precision(tmp_path: Path) -> None:
    network = trained_elsewhere("cifar10-lenet", tmp_path / "made.pth")
    code, told = run("cifar10-lenet", tmp_path / "made.pth", "--out", tmp_path / "made.safetensors")
    assert code == 0
    assert "sha256" in told
    found = load_file(tmp_path / "made.safetensors")
    assert {value.dtype for value in found.values()} == {torch.float16}
    assert all(torch.equal(found[key].float(), value) for key, value in network.state_dict().items())


def test_the_command_installs_weights_that_the_build_takes(tmp_path: Path) -> None:
    trained_elsewhere("cifar10-lenet", tmp_path / "made.pth")
    copy("cifar10-lenet", tmp_path / "archives")
    code, told = run("cifar10-lenet", tmp_path / "made.pth", "--install", "--archives", tmp_path / "archives")
    assert code == 0
    assert "radserve build cifar10-lenet" in told
    (source,) = builder.find(tmp_path / "archives")
    assert builder.build(source, tmp_path / "store").version == source.recipe.version != UNTRAINED


def test_the_command_wants_exactly_one_place_to_write_to(tmp_path: Path) -> None:
    trained_elsewhere("cifar10-lenet", tmp_path / "made.pth")
    assert run("cifar10-lenet", tmp_path / "made.pth")[0] == 2
    assert run("cifar10-lenet", tmp_path / "made.pth", "--install", "--out", tmp_path / "made.safetensors")[0] == 2
    assert run("cifar10-lenet", tmp_path / "made.pth", "--original", "--out", tmp_path / "made.safetensors")[0] == 2
    assert not (tmp_path / "made.safetensors").exists()


def test_a_folder_that_is_not_there_is_said_before_anything_is_read(tmp_path: Path) -> None:
    recipe = recipes.load(ROOT / "archives" / "cifar10-lenet" / "archive.yaml")
    with pytest.raises(WeightsImportError, match="no folder"):
        import_weights.convert(recipe, tmp_path / "none.pth", tmp_path / "none" / "made.safetensors")
