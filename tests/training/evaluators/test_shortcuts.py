import numpy as np
import torch
from torch import nn

from handlers import recipe as recipes
from tests.conftest import ROOT
from training.batches import Images
from training.evaluators import shortcuts
from training.evaluators.shortcuts import body, measure

RECIPE = recipes.load(ROOT / "archives" / "chest-xray-cnn" / "archive.yaml")


class _Watcher(nn.Module):
    """Reports pneumonia according to the brightness of one area of the film, and nothing else."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self._area = (..., rows, columns)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = x[:, :1].clone().requires_grad_(torch.is_grad_enabled())
        mask = torch.zeros_like(features)
        mask[self._area] = 1
        score = 20 * ((features * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)) + 1.5)
        return {"logits": torch.stack([torch.zeros_like(score), score], 1), "features": features}


def _images() -> Images:
    """Six films with black borders; those with the label 1 have a bright mark in the upper left corner."""
    pixels = torch.zeros(6, 1, 112, 160, dtype=torch.uint8)
    pixels[..., 20:112, 30:130] = 140
    pixels[3:, :, 6:14, 6:12] = 250
    return Images(pixels, torch.tensor([0, 0, 0, 1, 1, 1]), tuple("abcdef"))


def test_a_network_that_reads_the_mark_is_caught() -> None:
    result = measure(RECIPE, _Watcher(slice(6, 14), slice(6, 12)), _images(), seed=1)
    assert result["letters_erased"]["value"] == 0.5
    assert result["letters_of_the_other_label"]["value"] == 1
    assert result["relevance_outside_body"]["value"] > 0.3


def test_a_network_that_reads_the_body_moves_with_no_letter() -> None:
    result = measure(RECIPE, _Watcher(slice(60, 90), slice(60, 90)), _images(), seed=1)
    assert result["letters_erased"]["value"] == 0
    assert result["letters_of_the_other_label"]["value"] == 0


class _Plain(_Watcher):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": super().forward(x)["logits"]}


def test_a_network_without_features_has_no_relevance() -> None:
    result = measure(RECIPE, _Plain(slice(6, 14), slice(6, 12)), _images(), seed=1)
    assert result["letters_erased"]["value"] == 0.5
    assert "relevance_outside_body" not in result


def test_the_bias_of_the_recipe_is_applied() -> None:
    biased = RECIPE.model_copy(update={"calibration": RECIPE.calibration.model_copy(update={"bias": -1000.0})})
    result = measure(biased, _Watcher(slice(6, 14), slice(6, 12)), _images(), seed=1)
    assert result["letters_erased"]["value"] == 0  # the probability is 0 for every film


def test_the_body_is_the_largest_bright_area_without_holes() -> None:
    film = np.zeros((112, 160))
    film[20:110, 40:120] = 0.5
    film[60:70, 70:80] = 0
    film[2:8, 2:8] = 1
    mask = body(film)
    assert mask[65, 75]
    assert not mask[4, 4]
    assert not body(np.zeros((112, 160))).any()


def test_sharpness_is_exchanged_between_the_labels() -> None:
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(8, 1, 112, 160, generator=random)
    targets = torch.tensor([0, 1] * 4)
    values = 0.5 + torch.where(targets == 1, 0.04, 0.02)[:, None, None, None] * noise
    changed = shortcuts._sharpness_exchanged(values, targets)
    assert torch.allclose((changed - 0.5).flatten(1).std(1)[targets == 0].mean(), torch.tensor(0.04), atol=0.004)
