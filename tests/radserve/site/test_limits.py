"""Limits of the detector for the images of a site."""

import numpy as np
import pytest
import torch

from handlers.recipe import Detector
from radserve.site import limits
from radserve.site.limits import KEPT, MOST, Measured
from training.batches import Images

SECTION = Detector.model_validate(
    {
        "file": "detector.safetensors",
        "sha256": "0" * 64,
        "method": "by hand",
        "parts": ["thumbnail"],
        "marked": 1.0,
        "refused": 2.0,
        "fitted": "by hand",
        "split": "0" * 64,
    }
)
OTHERS = {"text": np.full(100, 9.0)}


def measured(scores: np.ndarray, highest: float = 2.5) -> Measured:
    """Return scores of a site with two images of each patient, and both labels."""
    count = len(scores)
    targets = torch.arange(count) // 2 % 2
    groups = tuple(str(index // 2) for index in range(count))
    return Measured(SECTION, scores.astype(float), Images(torch.empty(count, 0), targets, groups), highest)


def test_limits_rise_to_the_quantiles_of_the_site() -> None:
    fitted = limits.fit(measured(np.linspace(0.5, 2.2, 400)))
    assert fitted.marked == pytest.approx(0.5 + 0.965 * 1.7, abs=0.01)
    assert fitted.refused == pytest.approx(0.5 + 0.985 * 1.7, abs=0.01)
    assert "400 images of 200 patients" in fitted.fitted


def test_no_limit_falls_below_that_of_the_recipe() -> None:
    fitted = limits.fit(measured(np.linspace(0, 0.5, 200)))
    assert (fitted.marked, fitted.refused) == (1.0, 2.0)


def test_no_limit_rises_above_the_bound() -> None:
    fitted = limits.fit(measured(np.linspace(5, 9, 200)))
    assert (fitted.marked, fitted.refused) == (2.5, 2.5)


def test_the_bound_is_a_multiple_of_the_shipped_limit_where_other_images_are_far() -> None:
    assert limits.bound(SECTION, OTHERS) == MOST * 2.0
    assert limits.bound(SECTION, {}) == MOST * 2.0


def test_the_bound_still_refuses_most_of_each_kind_that_is_refused_as_shipped() -> None:
    near = np.linspace(2.05, 2.6, 100)
    highest = limits.bound(SECTION, OTHERS | {"noise": near})
    assert 2.05 < highest < MOST * 2.0
    assert np.mean(near >= highest) >= KEPT


def test_a_kind_that_passes_as_shipped_does_not_count() -> None:
    assert limits.bound(SECTION, {"upside down": np.linspace(1, 3, 100)}) == MOST * 2.0


def test_the_change_is_measured_with_limits_of_other_patients() -> None:
    site = measured(np.random.default_rng(0).normal(1.7, 0.25, 400))
    change = limits.changes(site, seed=1)["unlike_images"]
    assert change.before is not None
    assert change.after is not None
    assert change.difference is not None
    assert change.before[0] == pytest.approx(float(np.mean(site.scores >= 2.0)), abs=1e-4)
    assert change.after[0] == pytest.approx(0.015, abs=0.015)
    assert change.difference[2] < 0
