import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import DiceMetric
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics.bootstrap import intervals
from training.metrics.overlap import Overlaps, compare, hd95

SHAPE = (48, 64)


def _mask(seed: int) -> NDArray[np.bool_]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 5)
    return np.asarray(field > np.quantile(field, 0.8))


def _square(top: int, left: int, side: int = 5) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


NOTHING = np.zeros(SHAPE, dtype=bool)


def _tensor(mask: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


# MONAI calls itself in a way that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("seed", range(5))
def test_the_distance_agrees_with_monai(seed: int, spacing: tuple[float, float]) -> None:
    predicted, truth = _mask(seed), _mask(seed + 100)
    reference = compute_hausdorff_distance(
        _tensor(predicted), _tensor(truth), include_background=True, percentile=95, spacing=list(spacing)
    )
    assert hd95(predicted, truth, spacing) == pytest.approx(reference.item(), abs=1e-4)


def test_the_distance_of_a_shifted_square_is_the_shift() -> None:
    assert hd95(_square(10, 10), _square(10, 13)) == pytest.approx(3)
    assert hd95(_square(10, 10), _square(13, 10), spacing=(2, 1)) == pytest.approx(6)


def test_the_distance_is_that_of_the_larger_direction() -> None:
    truth = _square(10, 10)
    assert hd95(truth | _square(10, 40), truth) == hd95(truth, truth | _square(10, 40)) > 20


def test_a_missed_tumour_has_the_distance_of_the_diagonal() -> None:
    assert hd95(NOTHING, _square(10, 10)) == pytest.approx(math.hypot(*SHAPE))


def test_an_empty_truth_has_no_distance() -> None:
    assert math.isnan(hd95(NOTHING, NOTHING))
    assert math.isnan(hd95(_square(1, 1), NOTHING))


def _overlaps(*slices: tuple[int, int, int, float], patients: Sequence[str]) -> Overlaps:
    """Return the overlaps of slices with these intersections, predicted and true pixels and distances."""
    _, owner = np.unique(patients, return_inverse=True)
    intersection, predicted, truth, distance = np.array(slices, dtype=np.float64).T
    return Overlaps(intersection, predicted, truth, distance, owner)


def _four() -> Overlaps:
    return _overlaps(
        (10, 20, 20, 4),
        (0, 0, 40, 80),
        (0, 5, 0, math.nan),
        (0, 0, 0, math.nan),
        (30, 30, 30, 0),
        patients=["b", "b", "a", "a", "a"],
    )


def test_metrics_by_hand() -> None:
    # Patient a: 2*30 / (35 + 30); patient b: 2*10 / (20 + 60).
    assert _four().metrics() == pytest.approx(
        {
            "dice_patient": (60 / 65 + 20 / 80) / 2,
            "dice_patient_median": (60 / 65 + 20 / 80) / 2,
            "dice_slice": (0.5 + 0 + 1) / 3,
            "hd95": (4 + 80 + 0) / 3,
            "hd95_found": 2,
            "missed_slices": 1 / 3,
            "false_alarms": 1 / 2,
            "pixel_sensitivity": 40 / 90,
            "pixel_precision": 40 / 55,
        }
    )


def test_volumes_are_summed_per_patient() -> None:
    truth, predicted = _four().volumes
    assert truth.tolist() == [30, 60]
    assert predicted.tolist() == [35, 20]


@pytest.mark.parametrize("seed", range(3))
def test_slice_and_volume_dice_agree_with_monai(seed: int) -> None:
    truth = [_mask(seed * 10 + index) for index in range(6)]
    predicted = [_mask(seed * 10 + index + 3) for index in range(6)]
    table = compare(np.stack(predicted), np.stack(truth), ["a"] * 6)
    alone = DiceMetric(include_background=True, reduction="none")
    alone(torch.cat(list(map(_tensor, predicted))), torch.cat(list(map(_tensor, truth))))
    assert table.slice_dice.tolist() == pytest.approx(alone.aggregate().flatten().tolist(), abs=1e-5)  # type: ignore[union-attr]
    volume = DiceMetric(include_background=True)
    volume(_tensor(np.stack(predicted)), _tensor(np.stack(truth)))
    assert table.metrics()["dice_patient"] == pytest.approx(volume.aggregate().item(), abs=1e-5)  # type: ignore[union-attr]


def test_a_patient_drawn_twice_counts_twice() -> None:
    once = _four().metrics(np.array([2, 3, 4, 0, 1]))
    twice = _four().metrics(np.array([2, 3, 4, 0, 1, 2, 3, 4]))
    assert once == pytest.approx(_four().metrics())
    assert twice["dice_patient"] == pytest.approx((2 * 60 / 65 + 20 / 80) / 3)
    assert twice["dice_patient_median"] == pytest.approx(60 / 65)
    assert twice["dice_slice"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert twice["pixel_sensitivity"] == pytest.approx(70 / 120)


def test_a_bootstrap_draws_whole_patients() -> None:
    draw = np.random.default_rng(0)
    slices, patients = [], []
    for patient in range(30):
        quality = draw.random()
        for _ in range(5):
            truth = int(draw.integers(50, 500))
            slices.append((int(truth * quality), truth, truth, 1.0))
            patients.append(f"p{patient:02}")
    table = _overlaps(*slices, patients=patients)
    result = intervals(table.metrics, patients, seed=1, rounds=1000)["dice_patient"]
    assert result.low < result.value < result.high
    expected = 2 * 1.96 * table.patient_dice.std() / 30**0.5
    assert result.high - result.low == pytest.approx(expected, rel=0.1)


def test_metrics_without_tumour_are_undefined() -> None:
    result = compare(np.stack([NOTHING] * 2), np.stack([NOTHING] * 2), ["a", "b"]).metrics()
    assert result.pop("false_alarms") == 0
    assert all(math.isnan(value) for value in result.values())
