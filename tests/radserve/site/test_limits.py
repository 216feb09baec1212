"""Limits of the detector for the images of a site."""

from typing import Final

import numpy as np
import pytest
import torch

from handlers.recipe import Detector
from radserve.site import limits
from radserve.site.limits import Measured
from training.batches import Images

from .conftest import SECTION

SHARE: Final = 0.955
DETECTOR = Detector.model_validate(SECTION)


def measured(scores: np.ndarray) -> Measured:
    """Return scores of a site with two images of each patient, and both labels."""
    count = len(scores)
    targets = torch.arange(count) // 2 % 2
    groups = tuple(str(index // 2) for index in range(count))
    return Measured(DETECTOR, SHARE, scores.astype(float), Images(torch.empty(count, 0), targets, groups))


def test_the_limit_rises_to_the_models_own_quantile_of_the_site() -> None:
    fitted = limits.fit(measured(np.linspace(0.5, 2.0, 400)))
    assert fitted.marked == pytest.approx(0.5 + SHARE * 1.5, abs=0.01)
    assert "95.5% quantile of 400 images of 200 patients" in fitted.fitted


def test_the_limit_does_not_fall_below_that_of_the_recipe() -> None:
    assert limits.fit(measured(np.linspace(0, 0.5, 200))).marked == 1.0


def test_the_limit_does_not_rise_above_that_of_unlike_images() -> None:
    assert limits.fit(measured(np.linspace(5, 9, 200))).marked == 2.0


def test_the_change_is_measured_with_limits_of_other_patients() -> None:
    site = measured(np.random.default_rng(0).normal(1.2, 0.25, 400))
    changes = limits.changes(site, seed=1)
    unusual, unlike = changes["unusual_images"], changes["unlike_images"]
    assert unusual.before is not None
    assert unusual.after is not None
    assert unusual.difference is not None
    assert unusual.before[0] == pytest.approx(float(np.mean((site.scores >= 1) & (site.scores < 2))), abs=1e-4)
    assert unusual.after[0] == pytest.approx(1 - SHARE, abs=0.02)
    assert unusual.difference[2] < 0
    assert unlike.before == unlike.after
