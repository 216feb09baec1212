"""Prediction sets of a recipe, fitted and measured."""

import math

import numpy as np
import pytest
import torch

from handlers.recipe import Recipe
from training import recalibration, uncertainty
from training.batches import Images
from training.evaluators import outputs
from training.metrics.threshold_sweep import threshold_for_sensitivity
from training.settings import Settings

SETTINGS = Settings(data="test", sensitivity=0.9)


def _sample(patients: int = 200, seed: int = 1) -> tuple[np.ndarray, Images]:
    random = np.random.default_rng(seed)
    targets = (np.arange(patients) % 3 == 0).astype(int).repeat(2)
    gap = random.normal(np.where(targets == 1, 1.5, -1.5), 1.5)
    groups = tuple(f"patient {index // 2}" for index in range(2 * patients))
    images = Images(torch.empty(len(targets), 0), torch.tensor(targets), groups)
    return np.column_stack([0 * gap, gap]).astype(np.float32), images


def _settings(level: float) -> Settings:
    return SETTINGS.model_copy(update={"level": level})


def _statuses(recipe: Recipe, level: float) -> tuple[list[int], list[bool]]:
    logits, images = _sample()
    fitted = recalibration.refit(recipe, _settings(level), logits, images, "x", "0" * 64)
    sets = [item.certainty for item in uncertainty.decisions(fitted, logits)]
    return [len(item.prediction_set) for item in sets if item], [item.status == "uncertain" for item in sets if item]


def test_a_higher_level_puts_more_labels_into_the_sets(recipe: Recipe) -> None:
    sizes = [np.mean(_statuses(recipe, level)[0]) for level in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 1 < sizes[-1]


def test_abstention_grows_on_both_sides_of_the_level_that_the_model_reaches(recipe: Recipe) -> None:
    low, fitting, high = (np.mean(_statuses(recipe, level)[1]) for level in (0.5, 0.85, 0.99))
    assert low > fitting < high


def test_the_interval_of_the_threshold_contains_it_and_narrows_with_the_patients(recipe: Recipe) -> None:
    widths = []
    for patients in (50, 200, 800):
        logits, images = _sample(patients)
        fitted = recalibration.refit(recipe, SETTINGS, logits, images, "x", "0" * 64)
        assert fitted.uncertainty is not None
        assert fitted.uncertainty.threshold_interval is not None
        low, high = fitted.uncertainty.threshold_interval
        assert fitted.decision is not None
        assert low < fitted.decision.threshold < high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_the_interval_contains_the_threshold_of_many_other_patients(recipe: Recipe) -> None:
    logits, images = _sample(100)
    first = recalibration.refit(recipe, SETTINGS, logits, images, "x", "0" * 64)
    assert first.uncertainty is not None
    assert first.uncertainty.threshold_interval is not None
    low, high = first.uncertainty.threshold_interval
    others, population = _sample(2000, seed=9)
    shares = outputs.calibrated(others, first.calibration)[:, 1]
    assert low < threshold_for_sensitivity(population.targets.numpy() == 1, shares, SETTINGS.sensitivity) < high


def test_no_result_close_to_the_threshold_is_certain(recipe: Recipe) -> None:
    logits, images = _sample()
    fitted = recalibration.refit(recipe, SETTINGS, logits, images, "x", "0" * 64)
    assert fitted.decision is not None
    for share in (fitted.decision.threshold - 1e-3, fitted.decision.threshold + 1e-3):
        gap = fitted.calibration.temperature * math.log(share / (1 - share)) - fitted.calibration.bias
        (result,) = uncertainty.decisions(fitted, np.array([[0, gap]], dtype=np.float32))
        assert result.probabilities[fitted.decision.positive] == pytest.approx(share, abs=1e-5)
        assert result.certainty is not None
        assert result.certainty.status == "uncertain"


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
        fitted = uncertainty.fit(recipe, logits[others], rest, _settings(level), "x", "0" * 64).uncertainty
        assert fitted is not None
        assert max(fitted.quantiles.values()) < 1


def test_what_depends_on_sets_is_undefined_without_them(recipe: Recipe) -> None:
    logits, images = _sample()
    plain = recipe.model_copy(update={"uncertainty": None})
    measured = uncertainty.measure(plain, uncertainty.decisions(plain, logits), images, seed=1)
    undefined = {name for name, interval in measured.items() if np.isnan(interval.value)}
    assert undefined == {"accuracy_certain", "uncertain", *(f"coverage of {label}" for label in recipe.labels)}
