"""Archives of models whose weights are not shipped."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from handlers import recipe as recipes
from radserve.build import builder, import_weights, placeholder
from radserve.build import model_store as store_index
from radserve.build.import_weights import Checkpoint
from radserve.build.source import Source, find_sources
from radserve.cli.main import app
from radserve.errors import BuildError
from tests.conftest import ROOT
from tests.repack import NAME
from training import networks

SMALL = "cifar10-lenet"


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of a small model whose recipe declares that its weights are not shipped."""
    folder = tmp_path_factory.mktemp("lacking") / "archives"
    shutil.copytree(ROOT / "archives" / SMALL, folder / SMALL)
    path = folder / SMALL / "archive.yaml"
    recipe = yaml.safe_load(path.read_text())
    weights = {"file": "weights.safetensors", "sha256": None, "source": "run train.sh"}
    trained = {"calibration": {"temperature": 3.0, "fitted": "on many"}, "trained_on": "many photographs"}
    path.write_text(yaml.safe_dump(recipe | trained | {"weights": weights, "version": "1.2.0"}))
    for name in ("weights.safetensors", "metrics.json", "CARD.md"):
        (folder / SMALL / name).unlink(missing_ok=True)
    (folder / SMALL / "metrics.json").write_text('{"accuracy": 0.99}')
    return folder


@pytest.fixture(scope="module")
def untrained(lacking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store with an untrained archive of that model."""
    folder = tmp_path_factory.mktemp("untrained")
    (source,) = find_sources(lacking, untrained=True)
    builder.build(source, folder)
    return folder


def test_every_part_of_an_untrained_archive_says_so(untrained: Path) -> None:
    (entry,) = store_index.read(untrained).archives
    assert (entry.name, entry.version) == (SMALL, "0.0.0")
    with zipfile.ZipFile(untrained / entry.file) as packed:
        names = set(packed.namelist())
        recipe = yaml.safe_load(packed.read("archive.yaml"))
        card = packed.read("CARD.md").decode()
    assert "metrics.json" not in names
    assert "random weights" in card
    assert "run train.sh" in card
    assert recipe["version"] == "0.0.0"
    assert recipe["trained_on"] == "Nothing: random weights."
    assert recipe["calibration"] == {"temperature": 1.0, "fitted": "Not calibrated: random weights."}
    assert "random weights" in recipe["warning"]
    assert "UNTRAINED" in recipe["title"]
    assert recipe["weights"]["sha256"] is not None
    assert "1.2.0" not in str(recipe)


def test_an_untrained_archive_has_default_decision_and_no_metrics(tmp_path: Path) -> None:
    folder = ROOT / "archives" / "chest-xray-cnn"
    recipe = placeholder.create(Source(folder, recipes.load(folder / "archive.yaml")), tmp_path / "copy")
    assert recipe == recipes.load(tmp_path / "copy" / "archive.yaml")
    assert recipe.decision is not None
    assert (recipe.decision.threshold, recipe.decision.chosen) == (0.5, "Not chosen: random weights.")
    assert recipe.weights.sha256 == store_index.sha256(tmp_path / "copy" / recipe.weights.file)
    assert "AUROC" not in (tmp_path / "copy" / "CARD.md").read_text()


def test_untrained_builds_do_not_depend_on_the_random_state(untrained: Path, lacking: Path, tmp_path: Path) -> None:
    (source,) = find_sources(lacking, untrained=True)
    torch.manual_seed(123)
    builder.build(source, tmp_path)
    assert store_index.read(tmp_path) == store_index.read(untrained)


def test_an_untrained_archive_is_not_current_for_a_trained_build(untrained: Path, lacking: Path) -> None:
    (untrained_source,), (trained_source,) = find_sources(lacking, untrained=True), find_sources(lacking)
    assert builder.is_current(untrained_source, untrained)
    assert not builder.is_current(trained_source, untrained)


def test_missing_shipped_weights_are_never_replaced_by_random_ones(archives: Path) -> None:
    (source,) = find_sources(archives, untrained=True)
    assert not source.untrained
    (archives / NAME / "weights.safetensors").unlink()
    (source,) = find_sources(archives, untrained=True)
    assert not source.untrained, "missing shipped weights mean a damaged checkout, not an untrained model"


def test_a_trained_archive_replaces_an_untrained_one_but_not_the_reverse(
    untrained: Path, lacking: Path, tmp_path: Path
) -> None:
    store, archives = Path(shutil.copytree(untrained, tmp_path / "store")), tmp_path / "archives"
    shutil.copytree(lacking, archives)
    torch.save(networks.create("cifar10_lenet", 10).state_dict(), tmp_path / "checkpoint.pth")
    import_weights.install(archives / SMALL, Checkpoint(tmp_path / "checkpoint.pth"), original=False)
    (source,) = find_sources(archives)
    entry = builder.build(source, store)
    assert store_index.read(store).archives == (entry,)
    assert [path.name for path in store.glob("*.mar")] == [entry.file]
    (source,) = find_sources(lacking, untrained=True)
    with pytest.raises(BuildError, match="untrained archive cannot be added"):
        builder.build(source, store)
    assert store_index.read(store).archives == (entry,)


def test_weights_without_a_checksum_in_the_recipe_are_rejected(lacking: Path, tmp_path: Path) -> None:
    shutil.copytree(lacking, tmp_path / "archives")
    (tmp_path / "archives" / SMALL / "weights.safetensors").write_bytes(b"unknown")
    (source,) = find_sources(tmp_path / "archives")
    with pytest.raises(BuildError, match=r"has no 'weights\.sha256'"):
        builder.build(source, tmp_path / "store")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["build", *map(str, arguments)])


@pytest.mark.parametrize("everything", [["--all"], []])
def test_building_all_names_models_without_weights_in_one_line(
    lacking: Path, tmp_path: Path, everything: list[str]
) -> None:
    result = run(*everything, "--archives", lacking, "--model-store", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == (
        f"radserve: 1 of 1 models have no weights in this checkout: {SMALL}. "
        "'radserve build NAME' says how to get them.\n"
    )
    assert store_index.read(tmp_path).archives == ()


def test_building_a_named_model_without_weights_fails(lacking: Path, tmp_path: Path) -> None:
    result = run(SMALL, "--archives", lacking, "--model-store", tmp_path)
    assert result.exit_code == 1
    assert "run train.sh" in result.stderr


def test_a_failed_build_does_not_stop_the_others(lacking: Path, tmp_path: Path) -> None:
    archives = Path(shutil.copytree(lacking, tmp_path / "archives"))
    shutil.copytree(archives / SMALL, archives / "broken")
    path = archives / "broken" / "archive.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"name": "broken", "network": "none"}))
    result = run("--all", "--untrained", "--archives", archives, "--model-store", tmp_path / "store")
    assert result.exit_code == 1
    assert "network: unknown name 'none'" in result.stderr
    assert [entry.name for entry in store_index.read(tmp_path / "store").archives] == [SMALL]


def test_all_and_names_are_mutually_exclusive(lacking: Path, tmp_path: Path) -> None:
    assert run("--all", SMALL, "--archives", lacking, "--model-store", tmp_path).exit_code == 2
