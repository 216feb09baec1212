"""Tests of importing the weights of a checkpoint."""

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
from radserve.build.import_weights import Checkpoint
from radserve.build.model_store import UNTRAINED
from radserve.build.source import find_sources
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

ARCHIVES = [path.name for path in sorted((ROOT / "archives").iterdir())]


def copy(name: str, archives: Path) -> Path:
    return Path(shutil.copytree(ROOT / "archives" / name, archives / name))


def save_checkpoint(name: str, path: Path) -> torch.nn.Module:
    """Save a checkpoint like the original system; its values are exact in half precision."""
    recipe = recipes.load(ROOT / "archives" / name / "archive.yaml")
    torch.manual_seed(7)
    network = networks.create(recipe.network, recipe.outputs).half().float()
    wrapped = str(getattr(network, "WRAPPED", ""))
    state = {f"module.{key.removeprefix(wrapped)}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 20, "state_dict": state}, path)
    return network.eval()


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_an_archive_of_imported_weights_gives_the_logits_of_its_network(name: str, tmp_path: Path) -> None:
    network = save_checkpoint(name, tmp_path / "checkpoint.pth")
    copy(name, tmp_path / "archives")
    import_weights.install(tmp_path / "archives" / name, Checkpoint(tmp_path / "checkpoint.pth"), original=False)
    (source,) = find_sources(tmp_path / "archives", [name])
    entry = builder.build(source, tmp_path / "store")
    with zipfile.ZipFile(tmp_path / "store" / entry.file) as packed:
        packed.extract("program.pt2", tmp_path)
    spec = source.recipe.input
    images = torch.randn(2, spec.channels, spec.height, spec.width)
    with torch.inference_mode():
        expected, actual = network(images)["logits"], Program(tmp_path / "program.pt2")(images)["logits"]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_an_import_removes_every_claim_about_the_previous_weights(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    before = recipes.load(folder / "archive.yaml")
    save_checkpoint("chest-xray-cnn", tmp_path / "checkpoint.pth")
    recipe = import_weights.install(folder, Checkpoint(tmp_path / "checkpoint.pth"), original=False)
    assert recipe == recipes.load(folder / "archive.yaml")
    assert recipe.decision is not None
    assert (recipe.decision.threshold, recipe.decision.chosen) == (0.5, "Not chosen: imported weights.")
    assert (recipe.calibration.temperature, recipe.calibration.fitted) == (1.0, "Not fitted: imported weights.")
    assert "checkpoint.pth" in recipe.trained_on
    assert recipe.version == "2.0.0", "two models must not share a version"
    assert recipe.weights.sha256 != before.weights.sha256
    assert not (folder / "metrics.json").exists()
    assert before.detector is not None
    assert recipe.detector is None, "it was fitted to the features of the previous weights"
    assert not (folder / before.detector.file).exists()
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert "0.99" not in card
    assert "Nothing has been" in card


def test_the_original_preprocessing_is_used_on_request(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    save_checkpoint("chest-xray-cnn", tmp_path / "checkpoint.pth")
    recipe = import_weights.install(folder, Checkpoint(tmp_path / "checkpoint.pth"), original=True)
    assert recipe.input.std == (0.0564721,) * 3
    assert recipe.input.height == 112
    assert recipe.decision is not None
    assert recipe.decision.chosen == "The larger of the two outputs, as in the original system."


def test_original_without_original_yaml_fails_and_changes_nothing(tmp_path: Path) -> None:
    folder = copy("cifar10-lenet", tmp_path)
    (folder / "original.yaml").unlink(missing_ok=True)
    before = contents(folder)
    with pytest.raises(WeightsImportError, match=r"original\.yaml: missing"):  # before the checkpoint is read
        import_weights.install(folder, Checkpoint(tmp_path / "none.pth"), original=True)
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_rejected_checkpoint_changes_nothing(tmp_path: Path) -> None:
    folder = copy("chest-xray-cnn", tmp_path)
    before = contents(folder)
    save_checkpoint("cifar10-lenet", tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsImportError, match=r"no weights of this network: .* state_dict\.module\.conv1\.weight"):
        import_weights.install(folder, Checkpoint(tmp_path / "checkpoint.pth"), original=False)
    with pytest.raises(WeightsImportError, match="checkpoint not found"):
        import_weights.install(folder, Checkpoint(tmp_path / "none.pth"), original=False)
    assert contents(folder) == before


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["import", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit | RadServeError):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_writes_weights_in_half_precision(tmp_path: Path) -> None:
    network = save_checkpoint("cifar10-lenet", tmp_path / "checkpoint.pth")
    code, output = run("cifar10-lenet", tmp_path / "checkpoint.pth", "--out", tmp_path / "imported.safetensors")
    assert code == 0
    assert "sha256" in output
    weights = load_file(tmp_path / "imported.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(torch.equal(weights[key].float(), value) for key, value in network.state_dict().items())


def test_the_command_installs_weights_that_can_be_built(tmp_path: Path) -> None:
    save_checkpoint("cifar10-lenet", tmp_path / "checkpoint.pth")
    copy("cifar10-lenet", tmp_path / "archives")
    code, output = run("cifar10-lenet", tmp_path / "checkpoint.pth", "--install", "--archives", tmp_path / "archives")
    assert code == 0
    assert "radserve build cifar10-lenet" in output
    (source,) = find_sources(tmp_path / "archives")
    assert builder.build(source, tmp_path / "store").version == source.recipe.version != UNTRAINED


def test_the_command_requires_exactly_one_destination(tmp_path: Path) -> None:
    save_checkpoint("cifar10-lenet", tmp_path / "checkpoint.pth")
    assert run("cifar10-lenet", tmp_path / "checkpoint.pth")[0] == 2
    assert (
        run("cifar10-lenet", tmp_path / "checkpoint.pth", "--install", "--out", tmp_path / "imported.safetensors")[0]
        == 2
    )
    assert (
        run("cifar10-lenet", tmp_path / "checkpoint.pth", "--original", "--out", tmp_path / "imported.safetensors")[0]
        == 2
    )
    assert not (tmp_path / "imported.safetensors").exists()


@pytest.mark.parametrize("file", ["archive.yaml", "weights.safetensors", "new.pth"])
def test_the_command_writes_only_a_new_file_of_weights(file: str, tmp_path: Path) -> None:
    out = copy("cifar10-lenet", tmp_path) / file
    before = out.read_bytes() if out.exists() else None
    save_checkpoint("cifar10-lenet", tmp_path / "checkpoint.pth")
    arguments = ["import", "cifar10-lenet", str(tmp_path / "checkpoint.pth"), "--archives", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert "must be a new file" in str(result.exception)
    assert (out.read_bytes() if out.exists() else None) == before


def test_a_missing_output_folder_is_reported_first(tmp_path: Path) -> None:
    recipe = recipes.load(ROOT / "archives" / "cifar10-lenet" / "archive.yaml")
    with pytest.raises(WeightsImportError, match="does not exist"):
        import_weights.convert(recipe, Checkpoint(tmp_path / "none.pth"), tmp_path / "none" / "imported.safetensors")


def test_single_precision_gives_the_probabilities_of_the_checkpoint(tmp_path: Path) -> None:
    recipe = recipes.load(ROOT / "archives/cifar10-lenet/archive.yaml")
    state = networks.create(recipe.network, recipe.outputs).state_dict()
    torch.save(state, tmp_path / "checkpoint.pth")
    for half in (True, False):
        out = tmp_path / f"{half}.safetensors"
        import_weights.convert(recipe, Checkpoint(tmp_path / "checkpoint.pth", half=half), out)
        weights = load_file(out)
        exact = all(torch.equal(weights[key].float(), state[key]) for key in state)
        assert exact is not half


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name.startswith("brain")])
def test_original_brain_models_read_rgb(name: str, tmp_path: Path) -> None:
    folder = copy(name, tmp_path)
    save_checkpoint(name, tmp_path / "checkpoint.pth")
    assert import_weights.install(folder, Checkpoint(tmp_path / "checkpoint.pth"), original=True).input.color == "rgb"
