from pathlib import Path

import numpy as np
import pytest
import torch

from handlers.recipe import Recipe
from training.batches import Images
from training.evaluators import for_recipe, outputs
from training.evaluators.binary import BinaryEvaluator
from training.evaluators.evaluator import Logits
from training.settings import Settings

SETTINGS = Settings(data="chest_xray", sensitivity=0.9)


def _images(count: int = 200) -> Images:
    targets = torch.arange(count) % 4 // 3  # a quarter is positive
    return Images(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), targets, tuple(f"p{n // 2}" for n in range(count)))


def _logits(images: Images, *, shift: float = 0.0, scale: float = 1.0) -> Logits:
    """Return logits of a good ranking: noise around the truth, shifted and scaled."""
    noise = np.random.default_rng(0).normal(0, 1, len(images))
    away = scale * (2 * (2 * images.targets.numpy() - 1) + noise) + shift
    return np.stack([-away / 2, away / 2], axis=1).astype(np.float32)


def test_a_recipe_with_a_decision_gets_the_binary_evaluator(recipe: Recipe) -> None:
    assert isinstance(for_recipe(recipe), BinaryEvaluator)


def test_the_offset_reverts_a_shift_of_the_logits() -> None:
    images = _images()
    straight = BinaryEvaluator().bias_offset(_logits(images), images)
    moved = BinaryEvaluator().bias_offset(_logits(images, shift=3), images)
    assert abs(straight) < 1
    assert moved == pytest.approx(straight - 3, abs=0.01)


def test_the_temperature_reverts_a_scaling_of_the_logits(recipe: Recipe) -> None:
    images = _images()
    fitted = [
        BinaryEvaluator().calibrate(recipe, SETTINGS, _logits(images, scale=scale), images, "x").calibration.temperature
        for scale in (1, 3)
    ]
    assert fitted[1] == pytest.approx(3 * fitted[0], rel=0.01)


def test_the_threshold_is_the_highest_that_reaches_the_sensitivity(recipe: Recipe) -> None:
    images, logits = _images(), _logits(_images())
    calibrated = BinaryEvaluator().calibrate(recipe, SETTINGS, logits, images, "200 films")
    assert calibrated.decision is not None
    assert "0.9 on 200 films" in calibrated.decision.chosen
    scores = outputs.probabilities(logits, calibrated.calibration.temperature)[images.targets.numpy() == 1, 1]
    assert (scores >= calibrated.decision.threshold).mean() >= 0.9
    assert (scores >= calibrated.decision.threshold + 2e-6).mean() < 0.9


def test_the_bias_of_the_recipe_is_applied(recipe: Recipe) -> None:
    images = _images()
    biased = recipe.model_copy(update={"calibration": recipe.calibration.model_copy(update={"bias": -3.0})})
    first = BinaryEvaluator().measure(recipe, _logits(images), images, seed=1)
    second = BinaryEvaluator().measure(biased, _logits(images, shift=3), images, seed=1)
    assert first.confusion == second.confusion
    assert first.metrics == second.metrics


def test_the_positive_label_may_come_first(recipe: Recipe) -> None:
    """Metrics refer to the positive label, regardless of its index."""
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
    first = BinaryEvaluator().measure(turned, logits[:, ::-1].copy(), mirrored, seed=1)
    second = BinaryEvaluator().measure(usual, logits, images, seed=1)
    assert first.metrics == second.metrics
    assert first.confusion == second.confusion


def test_one_logit_is_evaluated_like_the_equivalent_pair(recipe: Recipe) -> None:
    images, pair = _images(), _logits(_images())
    one = recipe.model_copy(update={"activation": "sigmoid"})
    single = (pair[:, 1:] - pair[:, :1]).astype(np.float32)
    calibrated = [
        BinaryEvaluator().calibrate(variant, SETTINGS, logits, images, "x")
        for variant, logits in ((recipe, pair), (one, single))
    ]
    assert calibrated[0].calibration == calibrated[1].calibration
    assert calibrated[0].decision == calibrated[1].decision
    result = [
        BinaryEvaluator().measure(variant, logits, images, 1)
        for variant, logits in zip(calibrated, (pair, single), strict=True)
    ]
    assert result[0].metrics == result[1].metrics


def test_an_evaluation_has_intervals_confusion_matrix_and_plots(recipe: Recipe, tmp_path: Path) -> None:
    images = _images()
    result = BinaryEvaluator().measure(recipe, _logits(images), images, seed=1)
    assert result.confusion is not None
    assert sum(result.confusion.values()) == len(images)
    low, high = result.metrics["auroc"]["ci95"]
    assert 0.9 < low < result.metrics["auroc"]["value"] < high <= 1
    result.plot(tmp_path)
    assert list(tmp_path.glob("*.png"))
