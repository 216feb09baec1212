"""Second passes: which images get one, and what it changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import nn

from handlers.recipe import Recipe
from training import recalibration, second_pass
from training.batches import Images
from training.datasets import Example
from training.errors import SettingsError
from training.second_pass import Passes
from training.settings import Settings

GROUPS = ("A", "A", "A", "B", "C", "D", "E")
IMAGES = Images(torch.empty(7, 0), torch.tensor([1, 0, 0, 1, 1, 0, 0]), GROUPS)


class Brightness(nn.Module):
    """Calls a bright image positive."""

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        gap = values.flatten(1).mean(1)
        return {"logits": torch.stack([0 * gap, gap], 1)}


def test_every_group_weighs_the_same_in_the_limit(recipe: Recipe) -> None:
    brightness = np.array([0.1, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5])
    passes = Passes(brightness, np.zeros((7, 2), np.float32))
    limits = [second_pass.fit(recipe, passes, IMAGES, share, "x").second_pass for share in (0.3, 0.5)]
    assert [round(limit.darker_than, 6) for limit in limits if limit] == [0.2, 0.3]
    assert limits[0] is not None
    assert limits[0].fitted == "30% quantile of the brightness of x, each patient or group with the same weight."


def test_the_second_pass_of_every_image_is_collected(recipe: Recipe, tmp_path: Path) -> None:
    examples = []
    for level in (60, 240):
        path = tmp_path / f"{level}.png"
        Pillow.fromarray(np.tile(np.linspace(0, level, 300).astype(np.uint8), (280, 1))).save(path)
        examples.append(Example(str(level), path, "normal", str(level), "0" * 64))
    passes = second_pass.collect(Brightness(), recipe, examples)
    assert passes.brightness[0] < 0.1 * passes.brightness[1]
    np.testing.assert_allclose(passes.logits[0], passes.logits[1], atol=0.05)  # both are brightened to white
    limited = recipe.model_copy(update={"second_pass": None})
    assert passes.due(limited) == [None, None]
    section = second_pass.fit(recipe, passes, IMAGES.take(np.array([0, 3])), 0.5, "x")
    first, second = passes.due(section)
    assert second is None
    assert first is not None


def test_a_model_without_a_decision_between_two_labels_has_no_second_pass(recipe: Recipe) -> None:
    config = Settings(data="test", second_pass=0.2)
    second_pass.check(recipe, config)
    with pytest.raises(SettingsError, match="second_pass: is for classifiers"):
        second_pass.check(recipe.model_copy(update={"task": "segmentation"}), config)


def test_a_decision_is_measured_with_a_limit_of_other_patients(recipe: Recipe) -> None:
    random = np.random.default_rng(1)
    targets = np.arange(300) % 2
    gap = random.normal(np.where(targets == 1, 1.5, -1.5), 1.5)
    logits = np.column_stack([0 * gap, gap]).astype(np.float32)
    images = Images(torch.empty(300, 0), torch.tensor(targets), tuple(map(str, range(300))))
    passes = Passes(random.random(300), -logits)  # each second pass contradicts its image
    settings = Settings(data="test", sensitivity=0.9, second_pass=0.2)
    before, after = (recalibration.cross_fitted(recipe, settings, logits, images, each) for each in (None, passes))
    measured = second_pass.measure(recipe, before, after, images, seed=1)
    assert measured["second_pass"].value == pytest.approx(0.2, abs=0.02)
    assert 0.1 < measured["second_pass_uncertain"].value <= measured["second_pass"].value
    doubted, right = (measured[f"second_pass_{name}"] for name in ("doubted", "right"))
    assert 0.8 * doubted.value < right.value < doubted.value == round(300 * measured["second_pass_uncertain"].value)
    assert right.to_json() == {"value": right.value, "ci95": None}
    kept = recalibration.cross_fitted(recipe, Settings(data="test", sensitivity=0.9), logits, images, passes)
    assert [item.certainty for item in kept] == [item.certainty for item in before]  # the recipe has no limit
