from pathlib import Path

import pytest
import torch

from handlers.recipe import Recipe
from training import networks, weights
from training.detector import fit
from training.errors import RunError


def test_weights_are_rounded_to_half_precision(tmp_path: Path) -> None:
    network = networks.create("chest_xray_cnn", 2)
    weights.save(network.state_dict(), tmp_path / "weights.safetensors")
    again = weights.load(networks.create("chest_xray_cnn", 2), tmp_path / "weights.safetensors")
    for before, after in zip(network.parameters(), again.parameters(), strict=True):
        assert after.dtype == torch.float32
        assert torch.equal(after, before.half().float())


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    state = networks.create("chest_xray_cnn", 2).state_dict()
    backwards = dict(reversed(state.items()))
    assert weights.save(state, tmp_path / "a") == weights.save(backwards, tmp_path / "b")


def test_a_models_weights_must_have_the_checksum_of_its_recipe(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / recipe.weights.file
    sha256 = weights.save(networks.for_recipe(recipe).state_dict(), file)
    known = recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"sha256": sha256})})
    assert not fit.load_network(known, tmp_path, ()).training
    weights.save(networks.for_recipe(recipe).state_dict(), file)
    with pytest.raises(RunError, match=f"the recipe's key 'weights.sha256' is {sha256}"):
        fit.load_network(known, tmp_path, ())
    file.unlink()
    with pytest.raises(RunError, match="not found"):
        fit.load_network(known, tmp_path, ())


def test_a_run_without_an_epoch_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has not finished an epoch"):
        weights.from_checkpoint(tmp_path / "best.ckpt")
