"""Recipes become archives: reproducible, complete, and refused where something does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from handlers import recipe as recipes
from handlers.errors import RecipeError
from radserve.build import builder, import_weights, mar
from radserve.build import model_store as store_index
from radserve.cli.main import app
from radserve.errors import ArchiveError, BuildError
from tests.conftest import ROOT
from tests.repack import NAME, entry_of, repack, with_recipe, without
from training import networks

SMALL = "cifar10-lenet"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Copy the recipe's folder, to be changed."""
    folder = tmp_path / "archives"
    shutil.copytree(ROOT / "archives" / NAME, folder / NAME)
    return folder


def change(archives: Path, **values: object) -> None:
    path = archives / NAME / "archive.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def test_the_archive_holds_all_it_needs_and_no_network_code(store: Path) -> None:
    entry = store_index.read(store).find(NAME)
    assert entry is not None
    with zipfile.ZipFile(store / entry.file) as packed:
        names = set(packed.namelist())
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert {"archive.yaml", "program.pt2", "sample.png", "sample.json", "metrics.json", "classification.py"} <= names
    files = {path for path in (ROOT / "handlers").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in files} == {
        name for name in names if name.startswith("handlers/") and not name.endswith("/")
    }
    assert not any("training" in name or name.endswith((".pt", ".pth", ".pkl")) for name in names)
    assert manifest["model"]["modelVersion"] == entry.version
    assert manifest["model"]["handler"] == "classification.py"


def test_another_folder_at_another_time_gives_the_same_bytes(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in ("handlers", "radserve", "training", "archives"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))
    command = [sys.executable, "-m", "radserve", "build", NAME]
    subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy), "TZ": "Asia/Tokyo"}, check=True)
    assert (copy / "model_store").is_dir(), "the copy's own code built it"
    assert store_index.read(copy / "model_store").find(NAME) == store_index.read(store).find(NAME)


def test_an_archive_is_current_until_something_it_was_made_from_changes(store: Path, archives: Path) -> None:
    (source,) = builder.find(archives)
    assert builder.is_current(source, store)
    change(archives, title="Another title")
    (source,) = builder.find(archives)
    assert not builder.is_current(source, store)


def test_a_recipe_with_a_wrong_key_is_refused_by_name(archives: Path) -> None:
    change(archives, colour="gray")
    with pytest.raises(RecipeError, match="unknown key 'colour'"):
        builder.find(archives)


def test_a_recipe_that_does_not_exist_is_said(archives: Path) -> None:
    with pytest.raises(RecipeError, match="recipe not found"):
        builder.find(archives, ["chest-xray-dnn"])


def test_a_folder_without_recipes_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="holds no recipe"):
        builder.find(tmp_path)


def test_a_recipe_in_a_folder_of_another_name_is_refused(archives: Path) -> None:
    (archives / NAME).rename(archives / "other")
    with pytest.raises(BuildError, match="must agree"):
        builder.find(archives)


def test_weights_that_are_not_those_of_the_recipe_are_refused(archives: Path, tmp_path: Path) -> None:
    weights = archives / NAME / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (source,) = builder.find(archives)
    with pytest.raises(BuildError, match=r"weights\.sha256"):
        builder.build(source, tmp_path / "store")
    weights.unlink()
    with pytest.raises(BuildError, match="radserve train"):
        builder.build(source, tmp_path / "store")
    assert store_index.read(tmp_path / "store").archives == ()


def test_weights_of_another_shape_are_refused_naming_them(archives: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = archives / NAME / "weights.safetensors"
    state = load_file(weights)
    state["fc_02.bias"] = state["fc_02.bias"][:1]
    save_file(state, weights)
    change(archives, weights={"file": weights.name, "sha256": store_index.sha256(weights)})
    (archives / NAME / "metrics.json").unlink()
    (source,) = builder.find(archives)
    with pytest.raises(BuildError, match=r"fc_02\.bias"):
        builder.build(source, tmp_path / "store")


def test_figures_of_other_weights_are_not_packed(archives: Path, tmp_path: Path) -> None:
    path = archives / NAME / "metrics.json"
    report = json.loads(path.read_bytes())
    report["model"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(report), encoding="utf-8")
    (source,) = builder.find(archives)
    with pytest.raises(BuildError, match=r"figures of weights 0{64}.*radserve evaluate"):
        builder.build(source, tmp_path / "store")


def test_a_missing_file_of_the_recipes_folder_is_named(archives: Path, tmp_path: Path) -> None:
    (archives / NAME / "model-config.yaml").unlink()
    (source,) = builder.find(archives)
    with pytest.raises(BuildError, match=r"model-config\.yaml: missing"):
        builder.build(source, tmp_path / "store")


@pytest.fixture
def broken_store(store: Path, tmp_path: Path) -> Path:
    """Copy the store, to be damaged."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_sound_archive_is_verified(store: Path) -> None:
    assert mar.verify(entry_of(store), store).name == NAME


def test_one_flipped_byte_is_found(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"has sha256 .* the index says"):
        mar.verify(entry, broken_store)


def test_a_truncated_and_a_missing_archive_are_found(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="bytes, the index says"):
        mar.verify(entry, broken_store)
    path.unlink()
    with pytest.raises(ArchiveError, match="missing"):
        mar.verify(entry, broken_store)


@pytest.mark.parametrize("name", ["program.pt2", "archive.yaml", "sample.json", "MAR-INF/MANIFEST.json"])
def test_a_file_that_is_missing_in_an_archive_is_named(broken_store: Path, name: str) -> None:
    entry = repack(broken_store, without(name))
    with pytest.raises(ArchiveError, match=name):
        mar.verify(entry, broken_store)


def test_a_wrong_key_in_an_archives_recipe_is_named(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(colour="gray"))
    with pytest.raises(ArchiveError, match="unknown key 'colour'"):
        mar.verify(entry, broken_store)


def test_an_archive_under_another_version_is_found(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(version="9.9.9"))
    with pytest.raises(ArchiveError, match=r"its recipe says chest-xray-cnn 9\.9\.9"):
        mar.verify(entry, broken_store)


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the recipe of a small model without its weights, which it says are not shipped."""
    folder = tmp_path_factory.mktemp("lacking") / "archives"
    shutil.copytree(ROOT / "archives" / SMALL, folder / SMALL)
    path = folder / SMALL / "archive.yaml"
    recipe = yaml.safe_load(path.read_text())
    weights = {"file": "weights.safetensors", "sha256": None, "source": "make them at home"}
    decided = {"calibration": {"temperature": 3.0, "fitted": "on many"}, "trained_on": "many photographs"}
    path.write_text(yaml.safe_dump(recipe | decided | {"weights": weights, "version": "1.2.0"}))
    for name in ("weights.safetensors", "metrics.json", "CARD.md"):
        (folder / SMALL / name).unlink(missing_ok=True)
    (folder / SMALL / "metrics.json").write_text('{"accuracy": 0.99}')
    return folder


@pytest.fixture(scope="module")
def untrained(lacking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it untrained."""
    folder = tmp_path_factory.mktemp("untrained")
    (source,) = builder.find(lacking, untrained=True)
    builder.build(source, folder)
    return folder


def test_no_part_of_an_untrained_archive_can_be_taken_for_a_trained_one(untrained: Path) -> None:
    (entry,) = store_index.read(untrained).archives
    assert (entry.name, entry.version) == (SMALL, "0.0.0")
    with zipfile.ZipFile(untrained / entry.file) as packed:
        names = set(packed.namelist())
        recipe = yaml.safe_load(packed.read("archive.yaml"))
        card = packed.read("CARD.md").decode()
    assert "metrics.json" not in names
    assert "random weights" in card
    assert "make them at home" in card
    assert recipe["version"] == "0.0.0"
    assert recipe["trained_on"] == "Nothing: random weights."
    assert recipe["calibration"] == {"temperature": 1.0, "fitted": "Not calibrated: random weights."}
    assert "random weights" in recipe["warning"]
    assert "UNTRAINED" in recipe["title"]
    assert recipe["weights"]["sha256"] is not None
    assert "1.2.0" not in str(recipe)


def test_the_decision_of_an_untrained_archive_says_that_nobody_chose_it(tmp_path: Path) -> None:
    from radserve.build.placeholder import stand_in

    folder = ROOT / "archives" / "chest-xray-cnn"
    made = stand_in(recipes.load(folder / "archive.yaml"), folder, tmp_path / "made")
    assert made == recipes.load(tmp_path / "made" / "archive.yaml")
    assert made.decision is not None
    assert (made.decision.threshold, made.decision.chosen) == (0.5, "Not chosen: random weights.")
    assert made.weights.sha256 == store_index.sha256(tmp_path / "made" / made.weights.file)
    assert "AUROC" not in (tmp_path / "made" / "CARD.md").read_text()


def test_untrained_builds_are_the_same_bytes_whatever_was_drawn_before(
    untrained: Path, lacking: Path, tmp_path: Path
) -> None:
    (source,) = builder.find(lacking, untrained=True)
    torch.manual_seed(123)
    builder.build(source, tmp_path)
    assert store_index.read(tmp_path) == store_index.read(untrained)


def test_an_untrained_archive_is_current_only_where_an_untrained_one_is_asked_for(
    untrained: Path, lacking: Path
) -> None:
    (wanted,), (trained,) = builder.find(lacking, untrained=True), builder.find(lacking)
    assert builder.is_current(wanted, untrained)
    assert not builder.is_current(trained, untrained)


def test_shipped_weights_are_never_replaced_by_random_ones(archives: Path) -> None:
    (source,) = builder.find(archives, untrained=True)
    assert not source.untrained
    (archives / NAME / "weights.safetensors").unlink()
    (source,) = builder.find(archives, untrained=True)
    assert not source.untrained, "shipped weights that are gone are a damaged checkout, not an untrained model"


def test_a_trained_archive_takes_the_place_of_an_untrained_one_and_not_the_reverse(
    untrained: Path, lacking: Path, tmp_path: Path
) -> None:
    store, archives = Path(shutil.copytree(untrained, tmp_path / "store")), tmp_path / "archives"
    shutil.copytree(lacking, archives)
    torch.save(networks.create("cifar10_lenet", 10).state_dict(), tmp_path / "made.pth")
    import_weights.install(archives / SMALL, tmp_path / "made.pth", original=False)
    (source,) = builder.find(archives)
    entry = builder.build(source, store)
    assert store_index.read(store).archives == (entry,)
    assert [path.name for path in store.glob("*.mar")] == [entry.file]
    (source,) = builder.find(lacking, untrained=True)
    with pytest.raises(BuildError, match="no untrained archive may stand"):
        builder.build(source, store)
    assert store_index.read(store).archives == (entry,)


def test_weights_without_a_sha256_in_the_recipe_are_refused(lacking: Path, tmp_path: Path) -> None:
    shutil.copytree(lacking, tmp_path / "archives")
    (tmp_path / "archives" / SMALL / "weights.safetensors").write_bytes(b"whose?")
    (source,) = builder.find(tmp_path / "archives")
    with pytest.raises(BuildError, match=r"'weights\.sha256' names no weights"):
        builder.build(source, tmp_path / "store")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["build", *map(str, words)])


@pytest.mark.parametrize("everything", [["--all"], []])
def test_all_passes_over_what_lacks_weights_and_says_in_one_line_how_to_get_them(
    lacking: Path, tmp_path: Path, everything: list[str]
) -> None:
    done = run(*everything, "--archives", lacking, "--model-store", tmp_path)
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert SMALL in line
    assert "make them at home" in line
    assert store_index.read(tmp_path).archives == ()


def test_a_model_that_is_named_and_lacks_weights_is_an_error(lacking: Path, tmp_path: Path) -> None:
    done = run(SMALL, "--archives", lacking, "--model-store", tmp_path)
    assert done.exit_code == 1
    assert "make them at home" in done.stderr


def test_one_model_that_cannot_be_built_costs_no_other_one(lacking: Path, tmp_path: Path) -> None:
    archives = Path(shutil.copytree(lacking, tmp_path / "archives"))
    shutil.copytree(archives / SMALL, archives / "broken")
    path = archives / "broken" / "archive.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"name": "broken", "network": "none"}))
    done = run("--all", "--untrained", "--archives", archives, "--model-store", tmp_path / "store")
    assert done.exit_code == 1
    assert "network has value 'none'" in done.stderr
    assert [entry.name for entry in store_index.read(tmp_path / "store").archives] == [SMALL]


def test_all_and_names_exclude_each_other(lacking: Path, tmp_path: Path) -> None:
    assert run("--all", SMALL, "--archives", lacking, "--model-store", tmp_path).exit_code == 2
