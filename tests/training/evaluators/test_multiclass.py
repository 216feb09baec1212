from pathlib import Path

import numpy as np
import pytest
import torch

from handlers import recipe as recipes
from handlers.recipe import Recipe
from tests.training.conftest import ROOT
from training.batches import Images
from training.evaluators import for_recipe
from training.evaluators.evaluator import Logits
from training.evaluators.multiclass import MulticlassEvaluator
from training.settings import Settings

SETTINGS = Settings(data="cifar10")


@pytest.fixture(scope="module")
def cifar10() -> Recipe:
    return recipes.load(ROOT / "archives" / "cifar10-lenet" / "archive.yaml")


def _images(count: int = 300) -> Images:
    names = tuple(map(str, range(count)))
    return Images(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.arange(count) % 10, names)


def _logits(images: Images, scale: float = 1.0) -> Logits:
    noise = np.random.default_rng(0).normal(0, 1, (len(images), 10))
    logits: Logits = (scale * (noise + 3 * np.eye(10)[images.targets.numpy()])).astype(np.float32)
    return logits


def test_a_recipe_with_many_labels_gets_the_multiclass_evaluator(cifar10: Recipe) -> None:
    assert isinstance(for_recipe(cifar10), MulticlassEvaluator)


def test_the_temperature_reverts_a_scaling_of_the_logits(cifar10: Recipe) -> None:
    images = _images()
    first, second = (
        MulticlassEvaluator().calibrate(cifar10, SETTINGS, _logits(images, scale), images, "300 photographs")
        for scale in (1, 4)
    )
    assert second.calibration.temperature == pytest.approx(4 * first.calibration.temperature, rel=0.01)
    assert "300 photographs" in first.calibration.fitted
    assert first.decision is None


def test_there_is_no_offset() -> None:
    images = _images()
    assert MulticlassEvaluator().bias_offset(_logits(images), images) == 0


def test_the_accuracy_is_that_of_the_largest_logit(cifar10: Recipe, tmp_path: Path) -> None:
    images, logits = _images(), _logits(_images())
    expected = (logits.argmax(1) == images.targets.numpy()).mean()
    assert 0.5 < expected < 1
    for scale in (1, 0.2):
        result = MulticlassEvaluator().measure(cifar10, (scale * logits).astype(np.float32), images, seed=1)
        assert result.metrics["accuracy"]["value"] == pytest.approx(expected, abs=1e-4)
        assert result.confusion is not None
        assert sum(result.confusion[label][label] for label in cifar10.labels) == round(expected * 300)
    result.plot(tmp_path)
    assert list(tmp_path.glob("*.png"))
