"""Folders of new models."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch
import yaml
from PIL import Image

from handlers import recipe as recipes
from handlers.errors import RecipeError
from radserve.build import builder, model_store, new_model
from radserve.build.import_weights import Checkpoint
from radserve.build.new_model import Draft
from radserve.build.source import find_sources
from radserve.errors import BuildError, WeightsImportError
from tests import command_line
from training import networks, settings
from training.errors import NetworkError, SettingsError

INPUT: Final[dict[str, Any]] = {"color": "gray", "channels": 3, "height": 32, "width": 64}
DRAFT: Final = Draft("mine", "torchvision:squeezenet1_1", ("no", "yes"), INPUT)
KNOWN: Final[dict[str, Any]] = {
    "trained_on": "films",
    "licence": "MIT",
    "scope": {"modality": ["CR"], "body_part": ["chest"]},
    "input": INPUT | {"mean": [0.5] * 3, "std": [0.2] * 3},
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_model_is_a_valid_recipe_and_builds_an_archive_that_predicts_its_sample(tmp_path: Path) -> None:
    created = new_model.create(tmp_path / "archives", DRAFT, "radserve init mine")
    folder = tmp_path / "archives" / "mine"
    assert recipes.load(folder / "archive.yaml") == created
    with Image.open(folder / "sample.png") as sample:
        assert sample.size == (64, 32)
    assert names(folder) == ["archive.yaml", "sample.png", "torchserve.yaml"]
    (source,) = find_sources(tmp_path / "archives", untrained=True)
    assert builder.build(source, tmp_path / "store").version == model_store.UNTRAINED


def test_what_is_unknown_is_the_warning_of_every_prediction(tmp_path: Path) -> None:
    created = new_model.create(tmp_path, replace(DRAFT, warnings=("Beware.",)), "a test")
    assert created.warning == (
        "Incomplete recipe; unknown: modality, body part, mean and standard deviation of the input, training data, "
        "licence. Beware."
    )
    assert new_model.create(tmp_path, replace(DRAFT, name="known", **KNOWN), "a test").warning is None


def test_weights_are_installed_with_a_card_that_names_them(tmp_path: Path) -> None:
    network = networks.for_recipe(new_model.create(tmp_path / "other", DRAFT, "a test"))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "own.pth")
    created = new_model.create(tmp_path, DRAFT, "a test", Checkpoint(tmp_path / "own.pth"))
    assert "own.pth" in created.trained_on
    assert "own.pth" in (tmp_path / "mine" / "CARD.md").read_text()
    (source,) = find_sources(tmp_path)
    assert not source.lacks_weights


def test_training_settings_name_a_known_data_set(tmp_path: Path) -> None:
    new_model.create(tmp_path, replace(DRAFT, data="chest_xray"), "a test")
    assert settings.load(tmp_path / "mine" / "training.yaml").data == "chest_xray"
    with pytest.raises(SettingsError, match="mnist"):
        new_model.create(tmp_path, replace(DRAFT, name="other", data="mnist"), "a test")


def test_a_network_without_features_is_marked_as_not_explained(tmp_path: Path) -> None:
    draft = replace(DRAFT, network="torchvision:vit_b_32", input=INPUT | {"height": 224, "width": 224})
    assert not new_model.create(tmp_path, draft, "a test").explains
    assert yaml.safe_load((tmp_path / "mine" / "archive.yaml").read_text())["explanation"] == {"method": "none"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "Mine"}, BuildError, "'Mine': invalid name"),
        ({"name": "../mine"}, BuildError, "invalid name"),
        ({"labels": ("a",)}, RecipeError, "labels"),
        ({"labels": ("a", "a")}, RecipeError, "not unique"),
        ({"positive": "c"}, RecipeError, "decision.positive"),
        ({"network": "torchvision:alexnet"}, BuildError, "3 x 32 x 64"),
        ({"network": "unknown"}, NetworkError, "unknown name"),
        ({"network": "chest_xray_cnn", "network_args": {"a": 1}}, NetworkError, "accepts no arguments"),
        ({"network": "torchvision:lraspp_mobilenet_v3_large"}, BuildError, r"returns \(2, 2, 32, 64\)"),
        ({"input": INPUT | {"channels": 1}}, BuildError, "1 x 32 x 64"),
    ],
)
def test_an_invalid_description_leaves_no_folder(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        new_model.create(tmp_path, replace(DRAFT, **changes), "a test")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsImportError, match="no weights of this network"):
        new_model.create(tmp_path, DRAFT, "a test", Checkpoint(tmp_path / "other.pth"))
    assert names(tmp_path) == ["other.pth"]


def test_an_existing_folder_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(BuildError, match="already exists"):
        new_model.create(tmp_path, DRAFT, "a test")
    assert names(tmp_path / "mine") == []


MODULE = """\
import torch

class Branches(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.head = torch.nn.Linear(3, outputs)

    def forward(self, x):
        if x.shape[2] > 8:
            x = x[:, :, 4:]
        return self.head(x.mean((2, 3)))
"""


def test_a_module_of_the_caller_whose_forward_branches_is_built_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "caller_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    common = ("--archives", tmp_path / "archives")
    size = ("--labels", "a,b", "--color", "gray", "--height", 32, "--width", 32, "--network-args", '{"outputs": 2}')
    source = "module:caller_module:Branches"
    refused = command_line.run("import", source, "mine", *size, *common)
    assert refused.returncode == 1
    assert "--module caller_module:Branches" in refused.stderr
    permit = ("--module", "caller_module:Branches")
    assert command_line.run("import", source, "mine", *size, *permit, *common).returncode == 0
    built = command_line.run("build", "mine", "--untrained", *permit, *common, "--model-store", tmp_path / "store")
    assert built.returncode == 0, built.stderr


def test_init_asks_for_nothing_without_a_terminal_and_requires_the_labels(tmp_path: Path) -> None:
    missing = command_line.run("init", "mine", "--archives", tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "--labels" in missing.stderr
    options = ("--labels", "a, b", "--network", "torchvision:squeezenet1_1", "--height", 32, "--width", 32)
    done = command_line.run("init", "mine", *options, "--archives", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unknown: modality" in done.stdout
    assert recipes.load(tmp_path / "mine" / "archive.yaml").labels == ("a", "b")
