"""The limits of a detector."""

import numpy as np

from training.detector import calibration


def distances(count: int, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"features.distance": generator.chisquare(8, count), "pose.inverted": generator.random(count) * 1e-3}


def test_the_thresholds_refuse_and_mark_the_chosen_shares_of_held_out_images() -> None:
    values, groups = distances(4000, 0), [str(index) for index in range(4000)]
    limits = calibration.calibrate(values, groups)
    score = limits.score(values)
    assert abs(np.mean(score >= limits.refused) - calibration.DEFAULT.refused) < 1e-3
    assert abs(np.mean(score >= limits.marked) - calibration.DEFAULT.marked) < 1e-3
    fresh = limits.score(distances(4000, 1))
    assert np.mean(fresh >= limits.refused) < 2 * calibration.DEFAULT.refused


def test_a_group_weighs_the_same_however_many_images_it_has() -> None:
    values = np.concatenate([np.linspace(0, 1, 100), np.full(900, 5.0)])
    groups = [*map(str, range(100)), *["large"] * 900]
    limits = calibration.calibrate({"features.distance": values}, groups)
    assert limits.each["features.distance"] < 2


def test_small_odds_of_a_pose_do_not_give_a_small_limit() -> None:
    limits = calibration.calibrate(distances(100, 0), [str(index) for index in range(100)])
    assert limits.each["pose.inverted"] > 0.6


def test_held_out_images_are_measured_by_limits_of_other_groups() -> None:
    values = np.linspace(0, 1, 500)
    values[7] = 1e6
    status = calibration.crossed({"features.distance": values}, [str(index) for index in range(500)])
    assert status[7] == 2
    assert np.mean(status == 2) < 0.05


def test_the_shares_of_unusual_and_unlike_images_are_settings() -> None:
    values, groups = distances(1000, 0), [str(index) for index in range(1000)]
    limits = calibration.calibrate(values, groups, calibration.Shares(marked=0.2, refused=0.1))
    score = limits.score(values)
    assert abs(np.mean(score >= limits.marked) - 0.2) < 2e-3
    assert abs(np.mean(score >= limits.refused) - 0.1) < 2e-3
