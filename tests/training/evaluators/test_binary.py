from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.recipe import Recipe
from training import evaluators
from training.batches import Images
from training.evaluators import outputs
from training.evaluators.binary import Binary
from training.settings import Settings

SETTINGS = Settings(data="chest_xray", sensitivity=0.9)


def _images(count: int = 200) -> Images:
    targets = torch.arange(count) % 4 // 3  # a quarter is positive
    return Images(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), targets, tuple(f"p{n // 2}" for n in range(count)))


def _logits(images: Images, *, shift: float = 0.0, scale: float = 1.0) -> evaluators.Logits:
    """Outputs of a network that ranks well: noise around the truth, moved and stretched."""
    noise = np.random.default_rng(0).normal(0, 1, len(images))
    away = scale * (2 * (2 * images.targets.numpy() - 1) + noise) + shift
    return np.stack([-away / 2, away / 2], axis=1).astype(np.float32)


def test_a_recipe_with_a_decision_is_judged_so(recipe: Recipe) -> None:
    assert isinstance(evaluators.of(recipe), Binary)


def test_an_offset_undoes_what_moved_all_logits_one_way() -> None:
    images = _images()
    straight = Binary().offset(_logits(images), images)
    moved = Binary().offset(_logits(images, shift=3), images)
    assert abs(straight) < 1
    assert moved == pytest.approx(straight - 3, abs=0.01)


def test_the_temperature_undoes_what_stretched_them(recipe: Recipe) -> None:
    images = _images()
    fitted = [
        Binary().choose(recipe, SETTINGS, _logits(images, scale=scale), images, "x").calibration.temperature
        for scale in (1, 3)
    ]
    assert fitted[1] == pytest.approx(3 * fitted[0], rel=0.01)


def test_the_threshold_reaches_the_asked_sensitivity_and_no_higher_one_does(recipe: Recipe) -> None:
    images, logits = _images(), _logits(_images())
    made = Binary().choose(recipe, SETTINGS, logits, images, "200 films")
    assert made.decision is not None
    assert "0.9 on 200 films" in made.decision.chosen
    scores = outputs.probabilities(logits, made.calibration.temperature)[images.targets.numpy() == 1, 1]
    assert (scores >= made.decision.threshold).mean() >= 0.9
    assert (scores >= made.decision.threshold + 2e-6).mean() < 0.9


def test_the_positive_label_may_be_the_first(recipe: Recipe) -> None:
    """Figures are of the positive label, wherever it stands."""
    images, logits = _images(), _logits(_images())
    assert recipe.decision is not None
    turned = recipe.model_copy(
        update={
            "labels": ("pneumonia", "normal"),
            "decision": recipe.decision.model_copy(update={"threshold": 0.6}),
        }
    )
    mirrored = Images(images.pixels, 1 - images.targets, images.groups)
    usual = recipe.model_copy(update={"decision": turned.decision})
    first = Binary().measure(turned, logits[:, ::-1].copy(), mirrored, seed=1)
    second = Binary().measure(usual, logits, images, seed=1)
    assert first.figures == second.figures
    assert first.confusion == second.confusion


def test_one_logit_is_judged_as_the_pair_it_stands_for(recipe: Recipe) -> None:
    images, pair = _images(), _logits(_images())
    one = recipe.model_copy(update={"activation": "sigmoid"})
    single = (pair[:, 1:] - pair[:, :1]).astype(np.float32)
    made = [Binary().choose(asked, SETTINGS, logits, images, "x") for asked, logits in ((recipe, pair), (one, single))]
    assert made[0].calibration == made[1].calibration
    assert made[0].decision == made[1].decision
    found = [Binary().measure(asked, logits, images, 1) for asked, logits in zip(made, (pair, single), strict=True)]
    assert found[0].figures == found[1].figures


def test_a_verdict_has_an_interval_a_confusion_matrix_and_pictures(recipe: Recipe, tmp_path: Path) -> None:
    images = _images()
    found = Binary().measure(recipe, _logits(images), images, seed=1)
    assert found.confusion is not None
    assert sum(found.confusion.values()) == len(images)
    low, high = found.figures["auroc"]["ci95"]
    assert 0.9 < low < found.figures["auroc"]["value"] < high <= 1
    found.plot(tmp_path)
    assert list(tmp_path.glob("*.png"))
