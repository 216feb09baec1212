from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handlers import recipe as recipes
from handlers.recipe import Recipe
from tests.training.conftest import ROOT
from training import evaluators
from training.batches import Images
from training.evaluators.multiclass import Many
from training.settings import Settings

SETTINGS = Settings(data="cifar10")


@pytest.fixture(scope="module")
def cifar10() -> Recipe:
    return recipes.load(ROOT / "archives" / "cifar10-lenet" / "archive.yaml")


def _images(count: int = 300) -> Images:
    names = tuple(map(str, range(count)))
    return Images(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.arange(count) % 10, names)


def _logits(images: Images, scale: float = 1.0) -> evaluators.Logits:
    noise = np.random.default_rng(0).normal(0, 1, (len(images), 10))
    logits: evaluators.Logits = (scale * (noise + 3 * np.eye(10)[images.targets.numpy()])).astype(np.float32)
    return logits


def test_a_recipe_of_many_labels_is_judged_so(cifar10: Recipe) -> None:
    assert isinstance(evaluators.of(cifar10), Many)


def test_the_temperature_undoes_what_stretched_the_logits(cifar10: Recipe) -> None:
    images = _images()
    first, second = (
        Many().choose(cifar10, SETTINGS, _logits(images, scale), images, "300 photographs") for scale in (1, 4)
    )
    assert second.calibration.temperature == pytest.approx(4 * first.calibration.temperature, rel=0.01)
    assert "300 photographs" in first.calibration.fitted
    assert first.decision is None


def test_the_network_is_left_as_it_is() -> None:
    images = _images()
    assert Many().offset(_logits(images), images) == 0


def test_the_accuracy_is_that_of_the_largest_logit_at_any_temperature(cifar10: Recipe, tmp_path: Path) -> None:
    images, logits = _images(), _logits(_images())
    wanted = (logits.argmax(1) == images.targets.numpy()).mean()
    assert 0.5 < wanted < 1
    for scale in (1, 0.2):
        found = Many().measure(cifar10, (scale * logits).astype(np.float32), images, seed=1)
        assert found.figures["accuracy"]["value"] == pytest.approx(wanted, abs=1e-4)
        assert found.confusion is not None
        assert sum(found.confusion[label][label] for label in cifar10.labels) == round(wanted * 300)
    found.plot(tmp_path)
    assert list(tmp_path.glob("*.png"))
