"""Prediction sets of a recipe, fitted and measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handlers.recipe import Recipe
from training import recalibration, uncertainty
from training.batches import Images
from training.datasets import Example
from training.settings import Settings

from .conftest import film

SETTINGS = Settings(data="test", sensitivity=0.9)


def _sample(patients: int = 200, seed: int = 1) -> tuple[np.ndarray, Images]:
    random = np.random.default_rng(seed)
    targets = (np.arange(patients) % 3 == 0).astype(int).repeat(2)
    gap = random.normal(np.where(targets == 1, 1.5, -1.5), 1.5)
    groups = tuple(f"patient {index // 2}" for index in range(2 * patients))
    images = Images(torch.empty(len(targets), 0), torch.tensor(targets), groups)
    return np.column_stack([0 * gap, gap]).astype(np.float32), images


def _statuses(recipe: Recipe, level: float) -> tuple[list[int], list[bool]]:
    logits, images = _sample()
    fitted = uncertainty.fit(recipe, logits, images, level, "x", "0" * 64)
    sets = [item.certainty for item in uncertainty.decisions(fitted, logits)]
    return [len(item.prediction_set) for item in sets if item], [item.status == "uncertain" for item in sets if item]


def test_a_higher_level_puts_more_labels_into_the_sets(recipe: Recipe) -> None:
    sizes = [np.mean(_statuses(recipe, level)[0]) for level in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1 < sizes[-1]


def test_abstention_grows_on_both_sides_of_the_level_that_the_model_reaches(recipe: Recipe) -> None:
    low, fitting, high = (np.mean(_statuses(recipe, level)[1]) for level in (0.5, 0.85, 0.99))
    assert low > fitting < high


def test_certain_results_are_more_often_correct_for_new_patients(recipe: Recipe) -> None:
    logits, images = _sample()
    results = recalibration.cross_fitted(recipe, SETTINGS, logits, images)
    measured = uncertainty.measure(recipe, results, images, seed=1)
    assert measured["accuracy_certain"].value > measured["accuracy"].value
    assert 0 < measured["uncertain"].low < measured["uncertain"].high < 0.5
    for label in recipe.labels:
        assert measured[f"coverage of {label}"].value == pytest.approx(SETTINGS.level, abs=0.06)


def test_stating_the_share_of_positives_improves_the_calibration(recipe: Recipe) -> None:
    logits, images = _sample(patients=3000)
    results = recalibration.cross_fitted(recipe, SETTINGS, logits, images)
    measured = uncertainty.measure(recipe, results, images, seed=1)
    assert measured["ece_stated"].high < measured["ece"].low


def test_a_refit_recovers_shift_and_scale_of_the_logits(recipe: Recipe) -> None:
    logits, images = _sample()
    changed = logits * 3 + np.array([0, 4], dtype=np.float32)
    first, second = (recalibration.refit(recipe, SETTINGS, each, images, "x", "0" * 64) for each in (logits, changed))
    for one, other in zip(uncertainty.decisions(first, logits), uncertainty.decisions(second, changed), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=2e-3)


class Contrast(nn.Module):
    """Calls an image with high contrast positive."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self._slope = slope

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        gap = self._slope * values.flatten(1).std(1)
        return {"logits": torch.stack([0 * gap, gap], 1)}


def test_the_margin_is_what_re_encoding_changes(recipe: Recipe, tmp_path: Path) -> None:
    examples = [Example(str(seed), tmp_path / f"{seed}.jpeg", "normal", "A", "0" * 64) for seed in range(20)]
    for seed, example in enumerate(examples):
        film(example.path, seed, bright=False)
    margins = []
    for slope in (0, 1, 10):
        fitted = uncertainty.with_margin(recipe, Contrast(slope), examples).uncertainty
        assert fitted is not None
        margins.append(fitted.margin)
    assert margins[0] == 0 < margins[1]
    assert margins[2] == pytest.approx(10 * margins[1], rel=1e-3)


def test_a_refit_keeps_the_margin_of_the_logits(recipe: Recipe) -> None:
    logits, images = _sample()
    assert recipe.uncertainty is not None
    section = recipe.uncertainty.model_copy(update={"margin": 0.3})
    shipped = recipe.model_copy(update={"uncertainty": section})
    fitted = recalibration.refit(shipped, SETTINGS, logits, images, "x", "0" * 64)
    assert fitted.uncertainty is not None
    assert fitted.calibration.temperature != recipe.calibration.temperature
    of_logits = fitted.uncertainty.margin * fitted.calibration.temperature
    assert of_logits == pytest.approx(0.3 * recipe.calibration.temperature, abs=1e-5)


def test_a_part_shares_no_patient_with_the_others(recipe: Recipe) -> None:
    _, images = _sample()
    fold = recalibration.folds(images, seed=1)
    owners = {
        group: {fold[index] for index, each in enumerate(images.groups) if each == group} for group in images.groups
    }
    assert all(len(parts) == 1 for parts in owners.values())
    counts = [np.bincount(images.targets.numpy()[fold == part]) for part in range(recalibration.FOLDS)]
    assert np.ptp(np.array(counts), axis=0).max() <= 2


@pytest.mark.parametrize(("level", "needed"), [(0.5, 10), (0.9, 12), (0.95, 24)])
def test_few_patients_are_not_measured(recipe: Recipe, level: float, needed: int) -> None:
    """A third of the patients are positive; without a fifth of them, each label must still have a quantile."""
    logits, images = _sample(patients=3 * needed)
    assert recalibration.is_measurable(images, level)
    assert not recalibration.is_measurable(_sample(patients=3 * needed - 3)[1], level)
    for part in range(recalibration.FOLDS):
        others = np.flatnonzero(recalibration.folds(images, seed=1) != part)
        rest = images.take(others)
        fitted = uncertainty.fit(recipe, logits[others], rest, level, "x", "0" * 64).uncertainty
        assert fitted is not None
        assert max(fitted.quantiles.values()) < 1


def test_what_depends_on_sets_is_undefined_without_them(recipe: Recipe) -> None:
    logits, images = _sample()
    plain = recipe.model_copy(update={"uncertainty": None})
    measured = uncertainty.measure(plain, uncertainty.decisions(plain, logits), images, seed=1)
    undefined = {name for name, interval in measured.items() if np.isnan(interval.value)}
    assert undefined == {"accuracy_certain", "uncertain", *(f"coverage of {label}" for label in recipe.labels)}
