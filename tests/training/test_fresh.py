"""Trains shipped recipes from scratch to a bound that an untrained network does not reach."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from handlers import recipe as recipes
from radserve.build import builder
from radserve.build.source import find_sources
from training import lightning_modules, networks, settings
from training.batches import plain
from training.datasets import training_data
from training.detector import pose
from training.train import Options, train

from .conftest import LENET, Trained, copy_archive, make_glioma

pytestmark = pytest.mark.slow

UNET = (
    "validation=0.5",
    "epochs=6",
    "batch=2",
    "average=0",
    "learning_rate=0.03",
    "clip=100",
    "precision=single",
    "augmentation={flip: [horizontal]}",
)
"""Overrides with which glioma-unet learns a few slices in a few steps."""
SHIPPED = ("weights.safetensors", "archive.yaml", "metrics.json", "CARD.md")


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """glioma-unet, trained on two synthetic patients and measured on two others."""
    top = tmp_path_factory.mktemp("unet")
    trained = Trained(
        copy_archive(top / "archives", "glioma-unet"), make_glioma(top / "lgg", patients=4, each=4), top / "out"
    )
    options = Options(overrides=UNET, install=True, progress=False, tracker="none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose, "_STEPS", 20)  # for two detectors; `test_pose` shows what the steps of a release reach
        train(trained.folder, trained.data, trained.out, options)
    return trained


def _epochs(out: Path) -> list[dict[str, float]]:
    with (out / "epochs.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _metrics(out: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())["validation"]
    return metrics


def _untrained(trained: Trained, overrides: tuple[str, ...]) -> tuple[float, float]:
    """Return loss and metric on the validation side before the first step."""
    torch.manual_seed(0)
    recipe = recipes.load(trained.folder / "archive.yaml")
    config = settings.load(trained.folder / "training.yaml", overrides)
    data = training_data.load(recipe, config, trained.data)
    module = lightning_modules.create(recipe, config, data).eval()
    losses = []
    with torch.inference_mode():
        for images, targets in plain(data.validation, data.spec, len(recipe.labels), 16):
            losses += [float(module.update_metric(module.network(images)["logits"], targets))] * len(images)
        return float(np.mean(losses)), float(module.compute_metric())


def _assert_complete(trained: Trained, store: Path) -> None:
    """Assert that a release is complete, consistent and can be built."""
    for name in SHIPPED:
        assert (trained.folder / name).read_bytes() == (trained.out / name).read_bytes()
    recipe = recipes.load(trained.folder / "archive.yaml")
    report = json.loads((trained.folder / "metrics.json").read_text())
    assert report["model"]["weights_sha256"] == recipe.weights.sha256
    assert f"# {recipe.name} {recipe.version}" in (trained.folder / "CARD.md").read_text()
    state = load_file(trained.folder / "weights.safetensors")
    assert set(state) == set(networks.create(recipe.network, recipe.outputs).state_dict())
    pictures = list((trained.out / "plots").glob("*.png"))
    assert pictures
    assert all(path.stat().st_size > 1000 for path in pictures)
    (source,) = find_sources(trained.folder.parent, [recipe.name])
    entry = builder.build(source, store)
    assert (entry.version, (store / entry.file).stat().st_size) == (recipe.version, entry.size)


def test_fresh_training_of_cifar10_lenet_reaches_its_bound(lenet: Trained) -> None:
    loss, accuracy = _untrained(lenet, LENET)
    assert loss > 2
    assert accuracy < 0.4
    assert min(epoch["loss"] for epoch in _epochs(lenet.out)) < 0.5
    assert _metrics(lenet.out)["accuracy"]["value"] > 0.9


def test_a_fresh_cifar10_lenet_is_complete_and_can_be_built(lenet: Trained, tmp_path: Path) -> None:
    _assert_complete(lenet, tmp_path / "store")


def test_fresh_training_of_a_glioma_unet_reaches_its_bound(unet: Trained) -> None:
    loss, dice = _untrained(unet, UNET)
    assert loss > 1.1
    assert dice < 0.3
    assert min(epoch["loss"] for epoch in _epochs(unet.out)) < 0.95
    assert _metrics(unet.out)["dice_patient"]["value"] > 0.5


def test_a_fresh_glioma_unet_is_complete_and_can_be_built(unet: Trained, tmp_path: Path) -> None:
    _assert_complete(unet, tmp_path / "store")
