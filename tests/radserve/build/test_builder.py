"""Tests of building, packing and verifying archives."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from handlers import recipe as recipes
from handlers.errors import RecipeError
from radserve.build import builder, import_weights, mar, placeholder
from radserve.build import model_store as store_index
from radserve.build.import_weights import Checkpoint
from radserve.build.source import Source, find_sources
from radserve.cli.main import app
from radserve.errors import ArchiveError, BuildError
from tests.conftest import ROOT
from tests.repack import NAME, entry_of, repack, with_recipe, without
from training import networks

SMALL = "cifar10-lenet"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Copy of a model's folder, for tests that change it."""
    folder = tmp_path / "archives"
    shutil.copytree(ROOT / "archives" / NAME, folder / NAME)
    return folder


def change(archives: Path, **values: object) -> None:
    path = archives / NAME / "archive.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def test_an_archive_is_complete_and_contains_no_network_code(store: Path) -> None:
    entry = store_index.read(store).find(NAME)
    assert entry is not None
    with zipfile.ZipFile(store / entry.file) as packed:
        names = set(packed.namelist())
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert {"archive.yaml", "program.pt2", "sample.png", "sample.json", "metrics.json", "classification.py"} <= names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "handlers").rglob("*.py")}
    assert {name for name in names if name.startswith("handlers/")} == modules | {"handlers/py.typed"}
    assert not any("training" in name or name.endswith((".pt", ".pth", ".pkl")) for name in names)
    assert manifest["model"]["modelVersion"] == entry.version
    assert manifest["model"]["handler"] == "classification.py"


def test_builds_are_reproducible_across_folders_and_times(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for name in ("handlers", "radserve", "training", "archives"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))
    command = [sys.executable, "-m", "radserve", "build", NAME]
    subprocess.run(command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy), "TZ": "Asia/Tokyo"}, check=True)
    assert (copy / "model_store").is_dir(), "the code of the copy must have built it"
    assert store_index.read(copy / "model_store").find(NAME) == store_index.read(store).find(NAME)


def test_an_archive_is_current_until_an_input_changes(store: Path, archives: Path) -> None:
    (source,) = find_sources(archives)
    assert builder.is_current(source, store)
    change(archives, title="Another title")
    (source,) = find_sources(archives)
    assert not builder.is_current(source, store)


@pytest.mark.parametrize("module", ["radserve/build/trained_network.py", "handlers/dicom/windowing.py"])
def test_an_archive_is_not_current_after_a_change_of_the_code(module: str, archives: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("handlers", "radserve", "training"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import pathlib, sys; from radserve.build import builder; from radserve.build.source import find_sources; "
        "print(builder.digest(find_sources(pathlib.Path(sys.argv[1]))[0]))"
    )

    def digest() -> str:
        command = [sys.executable, "-c", code, str(archives)]
        return subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True).stdout

    before = digest()
    with (copy / module).open("a") as file:
        file.write("# changed\n")
    assert digest() != before


def test_an_archive_is_not_current_after_a_change_of_the_networks_library(
    archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = find_sources(archives)
    library = replace(source, recipe=source.recipe.model_copy(update={"network": "torchvision:resnet18"}))
    own, version = builder.digest(library), metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == "torchvision" else version(name))
    changed = builder.digest(library)
    assert changed != own
    assert builder.digest(source) not in (own, changed)


def test_an_archive_is_not_current_after_a_change_of_the_callers_module(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = find_sources(archives)
    module = tmp_path / "packaged_networks" / "inner.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").write_text("raise RuntimeError('executed')")
    module.write_text("A = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = replace(source, recipe=source.recipe.model_copy(update={"network": "module:packaged_networks.inner:Net"}))
    before = builder.digest(source)
    module.write_text("A = 2")
    assert builder.digest(source) != before


def test_an_unknown_recipe_key_is_reported(archives: Path) -> None:
    change(archives, colour="gray")
    with pytest.raises(RecipeError, match="unknown key 'colour'"):
        find_sources(archives)


def test_a_missing_recipe_is_reported(archives: Path) -> None:
    with pytest.raises(RecipeError, match="recipe not found"):
        find_sources(archives, ["chest-xray-dnn"])


def test_a_folder_without_recipes_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="contains no recipe"):
        find_sources(tmp_path)


def test_the_name_of_folder_and_recipe_must_match(archives: Path) -> None:
    (archives / NAME).rename(archives / "other")
    with pytest.raises(BuildError, match="rename the folder or the recipe"):
        find_sources(archives)


def test_weights_with_another_checksum_or_missing_weights_are_rejected(archives: Path, tmp_path: Path) -> None:
    weights = archives / NAME / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"weights\.sha256"):
        builder.build(source, tmp_path / "store")
    weights.unlink()
    with pytest.raises(BuildError, match="radserve train"):
        builder.build(source, tmp_path / "store")
    assert store_index.read(tmp_path / "store").archives == ()


def test_weights_of_another_shape_are_rejected_by_key(archives: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = archives / NAME / "weights.safetensors"
    state = load_file(weights)
    state["fc_02.bias"] = state["fc_02.bias"][:1]
    save_file(state, weights)
    change(archives, detector=None, weights={"file": weights.name, "sha256": store_index.sha256(weights)})
    (archives / NAME / "metrics.json").unlink()
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"fc_02\.bias"):
        builder.build(source, tmp_path / "store")


def test_metrics_of_other_weights_are_rejected(archives: Path, tmp_path: Path) -> None:
    path = archives / NAME / "metrics.json"
    report = json.loads(path.read_bytes())
    report["model"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(report), encoding="utf-8")
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"metrics of weights 0{64}.*radserve evaluate"):
        builder.build(source, tmp_path / "store")


def test_an_invalid_reference_of_monitoring_is_rejected(archives: Path, tmp_path: Path) -> None:
    path = archives / NAME / "metrics.json"
    report = json.loads(path.read_bytes())
    report["reference"]["shares"]["label"] = {"pneumonia": 1.5}
    path.write_text(json.dumps(report), encoding="utf-8")
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"reference of monitoring is invalid: .*pneumonia.*radserve evaluate"):
        builder.build(source, tmp_path / "store")


@pytest.mark.parametrize("fitted", [{"weights_sha256": "0" * 64}, {}], ids=["other", "unknown"])
def test_a_detector_of_other_weights_is_rejected(archives: Path, tmp_path: Path, fitted: dict[str, str]) -> None:
    section = yaml.safe_load((archives / NAME / "archive.yaml").read_text())["detector"]
    section.pop("weights_sha256", None)
    change(archives, detector=section | fitted)
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"was fitted with other weights\. Run 'radserve fit-detector chest-xray-cnn"):
        builder.build(source, tmp_path / "store")


def test_a_missing_file_of_the_models_folder_is_reported(archives: Path, tmp_path: Path) -> None:
    (archives / NAME / "torchserve.yaml").unlink()
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"torchserve\.yaml: missing"):
        builder.build(source, tmp_path / "store")


def test_the_former_name_of_the_torchserve_settings_is_reported(archives: Path, tmp_path: Path) -> None:
    (archives / NAME / "torchserve.yaml").rename(archives / NAME / "model-config.yaml")
    (source,) = find_sources(archives)
    with pytest.raises(BuildError, match=r"missing; rename model-config\.yaml to torchserve\.yaml"):
        builder.build(source, tmp_path / "store")


@pytest.fixture
def broken_store(store: Path, tmp_path: Path) -> Path:
    """Copy of the store, for tests that damage it."""
    return Path(shutil.copytree(store, tmp_path / "store"))


def test_a_valid_archive_passes_verification(store: Path) -> None:
    assert mar.verify(entry_of(store), store).name == NAME


def test_one_flipped_byte_fails_verification(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"has sha256 .* the index has"):
        mar.verify(entry, broken_store)


def test_a_truncated_or_missing_archive_fails_verification(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="bytes, the index has"):
        mar.verify(entry, broken_store)
    path.unlink()
    with pytest.raises(ArchiveError, match="missing"):
        mar.verify(entry, broken_store)


@pytest.mark.parametrize("name", ["program.pt2", "archive.yaml", "sample.json", "MAR-INF/MANIFEST.json"])
def test_a_file_missing_from_an_archive_is_reported(broken_store: Path, name: str) -> None:
    entry = repack(broken_store, without(name))
    with pytest.raises(ArchiveError, match=name):
        mar.verify(entry, broken_store)


def test_an_unknown_key_in_the_recipe_of_an_archive_is_reported(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(colour="gray"))
    with pytest.raises(ArchiveError, match="unknown key 'colour'"):
        mar.verify(entry, broken_store)


def test_an_archive_that_inflates_fails_verification_without_being_read(broken_store: Path) -> None:
    entry = entry_of(broken_store)
    path = broken_store / entry.file
    with zipfile.ZipFile(path) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
        bomb = zipfile.ZipInfo("bomb")
        bomb.compress_type = zipfile.ZIP_DEFLATED
        with packed.open(bomb, "w") as stream:
            for _ in range(100):
                stream.write(bytes(1 << 20))
    entry = entry.model_copy(update={"sha256": store_index.sha256(path), "size": path.stat().st_size})
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="unpacks to"):
            mar.verify(entry, broken_store)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ArchiveError, match="unpacks to"):
        mar.manifest(path)


@pytest.mark.parametrize("name", ["archive.yaml", "MAR-INF/MANIFEST.json"])
@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"[]", b"\xff", b" " * 1_100_000])
def test_an_invalid_document_in_an_archive_fails_verification(broken_store: Path, name: str, content: bytes) -> None:
    entry = repack(broken_store, lambda contents: contents.update({name: content}))
    with pytest.raises(ArchiveError, match=entry.name):
        mar.verify(entry, broken_store)


def test_an_archive_listed_under_another_version_fails_verification(broken_store: Path) -> None:
    entry = repack(broken_store, with_recipe(version="9.9.9"))
    with pytest.raises(ArchiveError, match=r"its recipe chest-xray-cnn 9\.9\.9"):
        mar.verify(entry, broken_store)


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
