from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handlers import recipe as recipes
from handlers.geometry import Geometry
from handlers.mask import segment
from handlers.recipe import Calibration, Recipe
from tests.training.conftest import ROOT
from training.batches import Images
from training.evaluators import for_recipe
from training.evaluators.evaluator import Logits
from training.evaluators.segmentation import SegmentationEvaluator, predict
from training.settings import Settings

SETTINGS = Settings(data="lgg_mri")
SIDE = 24


@pytest.fixture(scope="module")
def glioma() -> Recipe:
    return recipes.load(ROOT / "archives" / "glioma-unet" / "archive.yaml")


def _images(patients: int = 4, each: int = 6) -> Images:
    """A square in every other slice."""
    masks = torch.zeros(patients * each, 1, SIDE, SIDE, dtype=torch.uint8)
    masks[::2, :, 4:16, 6:14] = 1
    targets = (masks.sum((1, 2, 3)) > 0).long()
    groups = tuple(f"p{number // each}" for number in range(len(masks)))
    return Images(torch.zeros_like(masks), targets, groups, masks)


def _logits(images: Images, scale: float = 1.0, shift: float = 0.0) -> Logits:
    assert images.masks is not None
    noise = np.random.default_rng(0).normal(0, 1, images.masks.shape)
    return (scale * (4 * images.masks.numpy() - 2.0 + noise) + shift).astype(np.float32)


def _truth(images: Images) -> NDArray[np.bool_]:
    assert images.masks is not None
    return images.masks[:, 0].bool().numpy()


def test_a_segmentation_gets_the_segmentation_evaluator(glioma: Recipe) -> None:
    assert isinstance(for_recipe(glioma), SegmentationEvaluator)


def test_the_temperature_reverts_a_scaling_of_the_logits(glioma: Recipe) -> None:
    images = _images()
    first, second = (
        SegmentationEvaluator().calibrate(glioma, SETTINGS, _logits(images, scale), images, "x") for scale in (1, 3)
    )
    assert second.calibration.temperature == pytest.approx(3 * first.calibration.temperature, rel=0.01)
    assert second.decision == first.decision


def test_the_threshold_follows_a_shift_of_the_logits(glioma: Recipe) -> None:
    """Excessive logits lead to a higher threshold."""
    images = _images()
    low, high = (
        SegmentationEvaluator().calibrate(glioma, SETTINGS, _logits(images, shift=shift), images, "x").decision
        for shift in (-1.5, 1.5)
    )
    assert low is not None
    assert high is not None
    assert low.threshold < 0.5 < high.threshold


def test_the_smallest_mask_removes_specks_and_keeps_tumours(glioma: Recipe) -> None:
    images, truth = _images(), _truth(_images())
    logits = np.where(truth[:, None], 5, -5).astype(np.float32)
    logits[1::2, :, :3, :4] = 5  # twelve pixels where there is nothing
    calibrated = SegmentationEvaluator().calibrate(glioma, SETTINGS, logits, images, "x").decision
    assert calibrated is not None
    assert 12 < calibrated.smallest <= 96
    np.testing.assert_array_equal(predict(logits, calibrated.threshold, calibrated.smallest), truth)


def test_false_alarms_are_limited_at_the_cost_of_small_tumours(glioma: Recipe) -> None:
    """One speck in an empty slice is as large as a tumour of the same patient."""
    images = _images()
    assert images.masks is not None
    images.masks[0], images.masks[0, :, :3, :4] = 0, 1
    logits = np.where(_truth(images)[:, None], 5, -5).astype(np.float32)
    logits[1, :, :3, :4] = 5
    limited = SETTINGS.model_copy(update={"false_alarms": 0.05})
    free, strict = (
        SegmentationEvaluator().calibrate(glioma, config, logits, images, "x").decision
        for config in (SETTINGS, limited)
    )
    assert free is not None
    assert strict is not None
    assert free.smallest <= 12 < strict.smallest
    assert "at most 5% of empty slices" in strict.chosen


@pytest.mark.parametrize(("most", "text"), [(0, "no choice has 0% or fewer"), (0.125, "at most 12.5% of empty")])
def test_the_share_of_false_alarms_is_stated_where_no_choice_keeps_the_limit(
    glioma: Recipe, most: float, text: str
) -> None:
    images = _images()
    logits = np.where(_truth(images)[:, None], 5, -5).astype(np.float32)
    logits[1] = 5  # one of twelve empty slices is full of tumour
    limited = SETTINGS.model_copy(update={"false_alarms": most})
    decision = SegmentationEvaluator().calibrate(glioma, limited, logits, images, "x").decision
    assert decision is not None
    assert text in decision.chosen
    assert ("8.33% of empty slices get a mask" in decision.chosen) == (most == 0)


def test_predicted_masks_equal_the_served_ones(glioma: Recipe) -> None:
    """Both use the same temperature, threshold and smallest mask."""
    random = np.random.default_rng(1)
    spec = glioma.input.model_copy(update={"height": SIDE, "width": SIDE, "frame": None})
    assert glioma.decision is not None
    for smallest in (1, 100, 400):
        variant = glioma.model_copy(
            update={
                "input": spec,
                "calibration": Calibration(temperature=1.7, fitted="by hand"),
                "decision": glioma.decision.model_copy(update={"threshold": 0.7, "smallest": smallest}),
            }
        )
        logits = random.normal(0, 2, (6, 1, SIDE, SIDE)).astype(np.float32)
        result = predict(logits / np.float32(1.7), 0.7, smallest)
        assert result.any() == (smallest < 400)
        for row, mask in zip(logits, result, strict=True):
            served = segment(row, variant, Geometry.of(SIDE, SIDE, spec)).marked
            np.testing.assert_array_equal(served, mask)


def test_perfect_masks_have_dice_one_and_empty_ones_zero(glioma: Recipe, tmp_path: Path) -> None:
    images, truth = _images(), _truth(_images())
    perfect = np.where(truth[:, None], 9, -9).astype(np.float32)
    result = SegmentationEvaluator().measure(glioma, perfect, images, seed=1)
    assert result.metrics["dice_patient"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert result.metrics["dice_slice"]["value"] == 1
    assert result.metrics["false_alarms"]["value"] == 0
    assert result.confusion is None
    result.plot(tmp_path)
    assert list(tmp_path.glob("*.png"))
    missed = SegmentationEvaluator().measure(glioma, np.full_like(perfect, -9), images, seed=1)
    assert missed.metrics["dice_patient"]["value"] == 0
    assert missed.metrics["missed_slices"]["value"] == 1


def test_masks_on_the_wrong_slice_do_not_count(glioma: Recipe) -> None:
    images, truth = _images(), _truth(_images())
    shifted = np.where(np.roll(truth, 1, axis=0)[:, None], 9, -9).astype(np.float32)
    result = SegmentationEvaluator().measure(glioma, shifted, images, seed=1)
    assert result.metrics["dice_slice"]["value"] == 0
    assert result.metrics["false_alarms"]["value"] == 1
