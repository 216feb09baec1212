"""Tests of building archives."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from handlers.errors import RecipeError
from radserve.build import builder
from radserve.build import model_store as store_index
from radserve.build.source import find_sources
from radserve.errors import BuildError
from tests.conftest import ROOT
from tests.repack import NAME


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
